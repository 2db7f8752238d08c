"""The names of engines and their sidecars."""

import json
from pathlib import Path

import pytest
from built_engines import RTX, build_with_rtx, needs_rtx

from artifacts.run_directory import RunDirectory
from data.dataset import Dataset
from errors import UserError
from runtimes.tensorrt.engine_card import card_of_engine, engine_name
from runtimes.tensorrt.package import BUILDERS


def test_names_say_precision_builder_and_targets() -> None:
    assert engine_name("int8", RTX, ("sm86", "sm89")) == "engines/int8.rtx-sm86-sm89.engine"
    assert engine_name("fp16", BUILDERS["tensorrt"], ()) == "engines/fp16.tensorrt.engine"


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "3", '"text"', "{}", '{"targets": [], "batches": []}', '{"targets": null}']
)
def test_file_that_is_no_sidecar_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "fp32.rtx.json").write_text(text)
    with pytest.raises(UserError, match=r"fp32\.rtx\.json is not the sidecar of an engine") as refusal:
        card_of_engine(tmp_path / "fp32.rtx.engine")
    assert refusal.value.fix == "build the engine again"


def test_missing_sidecar_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"fp32\.rtx\.json is not the sidecar of an engine"):
        card_of_engine(tmp_path / "fp32.rtx.engine")


@needs_rtx
def test_sidecar_is_readable_json_with_the_graphs_metadata(preact_run: RunDirectory, digits: Dataset) -> None:
    build_with_rtx(preact_run, "int8")
    document = json.loads(preact_run.verified("engines/int8.rtx.json").read_text())
    assert json.loads(document["properties"]["skipfold.classes"]) == list(digits.classes)
    assert json.loads(document["properties"]["skipfold.mean"]) == list(digits.mean)
    assert json.loads(document["properties"]["skipfold.flavour"]) == "rtx"
