import json
from dataclasses import replace

import pytest

from errors import UserError
from training.recipes import RECIPES, default_recipe, recipe_from_name
from training.schedules import StepDecay


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_are_found_by_name_and_go_to_json(name: str) -> None:
    recipe = recipe_from_name(name, 20)
    fields = recipe.to_json()
    assert json.loads(json.dumps(fields)) == fields | {"schedule": json.loads(json.dumps(fields["schedule"]))}
    assert fields["schedule"]["name"] == recipe.schedule.name
    assert recipe == recipe_from_name(name, 20)


def test_an_unknown_name_lists_the_known() -> None:
    with pytest.raises(UserError, match="unknown recipe 'long': use paper or modern or digits or smoke"):
        recipe_from_name("long", 20)


@pytest.mark.parametrize(
    ("dataset", "recipe"),
    [("digits", "digits"), ("cifar10", "modern"), ("cifar100", "modern"), ("imagefolder", "modern")],
)
def test_the_recipe_a_data_set_gets(dataset: str, recipe: str) -> None:
    assert default_recipe(dataset) == recipe


def test_digits_are_not_mirrored() -> None:
    assert not recipe_from_name("digits", 20).flip
    assert recipe_from_name("modern", 20).flip


@pytest.mark.parametrize("epochs", [0, -1])
def test_no_epochs_are_refused(epochs: int) -> None:
    with pytest.raises(UserError, match="--epochs 1 or more"):
        replace(recipe_from_name("smoke", 20), epochs=epochs)


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan"), float("inf")])
def test_what_is_no_rate_is_refused(rate: float) -> None:
    with pytest.raises(UserError, match="is no learning rate: give --peak-rate a number above 0"):
        replace(recipe_from_name("smoke", 20), peak_rate=rate)


def test_the_rate_is_the_schedules_share_of_the_peak() -> None:
    recipe = replace(recipe_from_name("smoke", 20), peak_rate=0.4, schedule=StepDecay())
    assert [recipe.rate_at(step, 4) for step in range(4)] == pytest.approx([0.4, 0.4, 0.04, 0.004])


@pytest.mark.parametrize(("depth", "low_steps"), [(20, 0), (56, 0), (110, 400), (164, 400), (1001, 400)])
def test_the_papers_recipe(depth: int, low_steps: int) -> None:
    recipe = recipe_from_name("paper", depth)
    assert (recipe.batch_size, recipe.momentum, recipe.nesterov) == (128, 0.9, False)
    assert (recipe.weight_decay, recipe.decay_all) == (1e-4, True)
    # The paper has 64,000 steps and divides the rate at 32,000 and 48,000. 383 steps train on 49,000 images.
    steps = recipe.epochs * 383
    assert steps == pytest.approx(64_000, rel=1e-3)
    rates = [round(recipe.rate_at(step, steps), 6) for step in range(steps)]
    assert rates[:low_steps] == [0.01] * low_steps
    assert rates[low_steps:].count(0.1) == pytest.approx(32_000 - low_steps, abs=30)
    assert rates[steps // 2 :].count(0.01) == pytest.approx(16_000, abs=30)
    assert rates.count(0.001) == pytest.approx(16_000, abs=30)
