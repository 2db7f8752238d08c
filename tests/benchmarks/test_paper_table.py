"""The table of made-up trainings."""

from dataclasses import replace

import pytest

from artifacts.run_directory import RunDirectory
from benchmarks.paper_table import COLUMNS, PAPER, Trained, plot, rows, trained_in
from errors import UserError
from models.checkpoint import CheckpointCard
from models.config import resnet_config
from training.recipes import recipe_from_name

LOG = [
    {"epoch": 1, "loss": 2.0, "held_out_accuracy": 40.0},
    {"epoch": 2, "loss": 1.0, "held_out_accuracy": 60.0},
]


def training(variant: str, depth: int, epochs: int, peak_rate: float = 0.1, seed: int = 0) -> Trained:
    recipe = replace(recipe_from_name("paper", depth), epochs=epochs, peak_rate=peak_rate)
    facts = {
        "recipe": recipe.to_json(),
        "seed": seed,
        "arithmetic": "float32",
        "processes": 2,
        "seconds": 5400.0,
        "test_accuracy": 94.5,
    }
    card = CheckpointCard(
        resnet_config(variant, depth), "cifar10", ("a",), (0.5,), (0.2,), trained=True, training=facts
    )
    return Trained(card, LOG)


def test_cells_that_no_run_belongs_to_say_so() -> None:
    table = rows([training("preact", 164, 167)], "CIFAR-10")
    assert len(table) == len(PAPER) and {len(row) for row in table} == {len(COLUMNS)}
    assert [row[3] for row in table].count("not run") == len(PAPER) - 1
    assert table[4][:4] == ["1001", "original", "7.61", "not run"]
    assert table[3] == [
        "164", "preact", "5.46", "5.50", "paper", "167", "0", "float32", "2", "1.5", "CIFAR-10",
    ]  # fmt: skip


def test_other_depths_and_seeds_are_rows_of_their_own() -> None:
    runs = [training("original", 20, 2), training("original", 20, 2, seed=1), training("preact", 20, 2, 0.3)]
    table = rows(runs, "a copy")
    assert [row[:4] for row in table[:3]] == [
        ["20", "original", "–", "5.50"],
        ["20", "original", "–", "5.50"],
        ["20", "preact", "–", "5.50"],
    ]
    assert [(row[4], row[6]) for row in table[:3]] == [("paper", "0"), ("paper", "1"), ("own", "0")]


def test_the_plot_names_every_training() -> None:
    text = plot([training("original", 20, 2), training("preact", 164, 2)])
    assert ">original 20<" in text and ">preact 164<" in text


def test_other_data_is_refused(preact_run: RunDirectory) -> None:
    with pytest.raises(UserError, match="no finished training on CIFAR-10"):
        trained_in(preact_run)
