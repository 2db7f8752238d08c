"""What the engines of a run do: kernels and memory traffic by kind, from the layers beside each plan."""

from collections.abc import Iterator
from dataclasses import dataclass

from artifacts.names import ENGINE_FOLDER
from artifacts.run_directory import RunDirectory
from runtimes.tensorrt.engine_card import EngineCard, card_of_engine, files_of_engine, layers_of_engine
from runtimes.tensorrt.plan_layers import Layer, Traffic, kernels_of, traffic


@dataclass(frozen=True)
class EngineTable:
    """One engine in the report.

    Attributes:
        name: of the plan in the run directory.
        rows: for each kind of kernel, what the kernels of this kind move at each batch size of the card's
            `traffic`; empty where the layers are not known.
    """

    name: str
    card: EngineCard
    rows: dict[str, tuple[Traffic, ...]]


def engine_tables(run: RunDirectory) -> list[EngineTable]:
    """A table for each engine that was made from the graphs that are there now."""
    return [EngineTable(name, *_card_and_rows(run, name)) for name in _engines(run)]


def _engines(run: RunDirectory) -> Iterator[str]:
    for name in run.recorded(f"{ENGINE_FOLDER}/"):
        if name.endswith(".engine") and all(
            run.is_fresh(file) and run.is_intact(file) for file in files_of_engine(name)
        ):
            yield name


def _card_and_rows(run: RunDirectory, name: str) -> tuple[EngineCard, dict[str, tuple[Traffic, ...]]]:
    card, layers = card_of_engine(run.path / name), layers_of_engine(run.path / name)
    served = {told.profile for told in card.traffic}
    kinds = sorted({layer.kind for profile in served for layer in kernels_of(layers, profile)})
    rows = {kind: tuple(_of_kind(layers, kind, told) for told in card.traffic) for kind in kinds}
    return card, rows


def _of_kind(layers: tuple[Layer, ...], kind: str, told: Traffic) -> Traffic:
    return traffic([layer for layer in layers if layer.kind == kind], told.profile, told.batch)
