from dataclasses import replace
from math import cos, pi

import pytest
from hypothesis import given
from hypothesis import strategies as st

from errors import UserError
from training.recipes import RECIPES, Recipe, default_recipe, recipe_from_name


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_are_found_by_name_and_go_to_json(name: str) -> None:
    recipe = recipe_from_name(name)
    assert Recipe(**recipe.to_json()) == recipe
    assert recipe == recipe_from_name(name)


def test_an_unknown_name_lists_the_known() -> None:
    with pytest.raises(UserError, match="unknown recipe 'long': use modern or digits or smoke"):
        recipe_from_name("long")


@pytest.mark.parametrize(
    ("dataset", "recipe"),
    [("digits", "digits"), ("cifar10", "modern"), ("cifar100", "modern"), ("imagefolder", "modern")],
)
def test_the_recipe_a_data_set_gets(dataset: str, recipe: str) -> None:
    assert default_recipe(dataset) == recipe


def test_digits_are_not_mirrored() -> None:
    assert not recipe_from_name("digits").flip
    assert recipe_from_name("modern").flip


@pytest.mark.parametrize("epochs", [0, -1])
def test_no_epochs_are_refused(epochs: int) -> None:
    with pytest.raises(UserError, match="--epochs 1 or more"):
        replace(recipe_from_name("smoke"), epochs=epochs)


def test_rates_of_a_schedule_by_hand() -> None:
    recipe = replace(recipe_from_name("smoke"), peak_rate=0.4, warmup=0.2)
    falling = [0.4 * (1 + cos(pi * step / 8)) / 2 for step in range(8)]
    assert [recipe.rate_at(step, 10) for step in range(10)] == pytest.approx([0.2, 0.4, *falling])
    assert falling[4] == pytest.approx(0.2), "half of the peak half-way down"


@given(
    steps=st.integers(1, 500),
    warmup=st.floats(0, 1),
    peak_rate=st.floats(1e-6, 10),
)
def test_the_rate_rises_to_the_peak_then_falls_and_stays_above_0(
    steps: int, warmup: float, peak_rate: float
) -> None:
    recipe = replace(recipe_from_name("smoke"), peak_rate=peak_rate, warmup=warmup)
    rates = [recipe.rate_at(step, steps) for step in range(steps)]
    top = rates.index(max(rates))
    assert max(rates) == pytest.approx(peak_rate)
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert min(rates) > 0
    assert top <= max(1, round(warmup * steps))
