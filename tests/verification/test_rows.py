import json
from pathlib import Path
from typing import Any

import pytest

from artifacts.names import CHECKPOINT, MODEL, MODEL_INT8_CPU, PARITY
from artifacts.records import Step
from artifacts.run_directory import RunDirectory
from errors import UserError
from runtimes.subjects import Subject
from verification.rows import Row, is_current, kept_rows, read_table, row_of, table_text

ORT = Subject("ort", "fp32", MODEL, "cpu")
OPENVINO = Subject("openvino", "fp32", MODEL, "cpu")
INT8 = Subject("ort", "int8", MODEL_INT8_CPU, "cpu")
MACHINE = {"cpu": "A", "gpus": []}


def _write(run: RunDirectory, **contents: str) -> None:
    names = {"weights": CHECKPOINT, "model": MODEL, "int8": MODEL_INT8_CPU, "parity": PARITY}
    for key, content in contents.items():
        with run.writing(Step("export", {}, (), (names[key],))) as folder:
            (folder / names[key]).write_text(content)


@pytest.fixture
def tables(tmp_path: Path) -> RunDirectory:
    run = RunDirectory(tmp_path / "run")
    _write(run, weights="weights", model="model", int8="int8")
    return run


def _record(run: RunDirectory, *rows: Row, machine: Row = MACHINE, **more: Any) -> None:
    _write(run, parity=table_text(machine, list(rows), **more))


def test_row_says_who_was_measured_and_on_which_files(tables: RunDirectory) -> None:
    assert row_of(tables, INT8, {"snr_db": 34.5}) == {
        "engine": "ort",
        "precision": "int8",
        "device": "cpu",
        "artifact": MODEL_INT8_CPU,
        "artifact_sha256": tables.record(MODEL_INT8_CPU).sha256,
        "checkpoint_sha256": tables.record(CHECKPOINT).sha256,
        "snr_db": 34.5,
    }


def test_rows_of_others_are_kept(tables: RunDirectory) -> None:
    old = [row_of(tables, subject, {"n": 1}) for subject in (ORT, INT8)]
    _record(tables, *old)
    assert kept_rows(tables, PARITY, MACHINE, [row_of(tables, OPENVINO, {"n": 2})]) == old


def test_row_that_is_measured_again_is_replaced(tables: RunDirectory) -> None:
    old = [row_of(tables, subject, {"n": 1}) for subject in (ORT, INT8)]
    _record(tables, *old)
    assert kept_rows(tables, PARITY, MACHINE, [row_of(tables, ORT, {"n": 2})]) == old[1:]


@pytest.mark.parametrize(
    "other",
    [
        Subject("ort", "fp32", MODEL, "cuda"),
        Subject("ort", "int8", MODEL, "cpu"),
        Subject("ort", "fp32", MODEL_INT8_CPU, "cpu"),
    ],
)
def test_other_device_precision_or_artifact_is_another_row(tables: RunDirectory, other: Subject) -> None:
    old = row_of(tables, ORT, {})
    _record(tables, old)
    assert kept_rows(tables, PARITY, MACHINE, [row_of(tables, other, {})]) == [old]


def test_other_batch_size_is_another_row(tables: RunDirectory) -> None:
    old = [row_of(tables, ORT, {"batch": batch}) for batch in (1, 8)]
    _record(tables, *old)
    assert kept_rows(tables, PARITY, MACHINE, [row_of(tables, ORT, {"batch": 8})]) == old[:1]


def test_row_of_a_changed_artifact_is_dropped(tables: RunDirectory) -> None:
    old = [row_of(tables, subject, {}) for subject in (ORT, INT8)]
    _record(tables, *old)
    _write(tables, model="another model")
    assert kept_rows(tables, PARITY, MACHINE, []) == old[1:]


def test_row_of_an_artifact_that_is_gone_is_dropped(tables: RunDirectory) -> None:
    old = [row_of(tables, subject, {}) for subject in (ORT, INT8)]
    _record(tables, *old)
    tables.discard(MODEL_INT8_CPU)
    assert kept_rows(tables, PARITY, MACHINE, []) == old[:1]


def test_all_rows_of_a_changed_checkpoint_are_dropped(tables: RunDirectory) -> None:
    _record(tables, *[row_of(tables, subject, {}) for subject in (ORT, INT8)])
    _write(tables, weights="trained again")
    assert kept_rows(tables, PARITY, MACHINE, []) == []


def test_rows_of_another_machine_are_dropped(tables: RunDirectory) -> None:
    _record(tables, row_of(tables, ORT, {}), machine=MACHINE | {"cpu": "B"})
    assert kept_rows(tables, PARITY, MACHINE, []) == []


@pytest.mark.parametrize("recorded", [{"dataset_sha256": "b"}, {}])
def test_rows_of_other_images_are_dropped(tables: RunDirectory, recorded: Row) -> None:
    _record(tables, row_of(tables, ORT, {}), **recorded)
    assert kept_rows(tables, PARITY, MACHINE, [], dataset_sha256="a") == []


def test_rows_of_the_same_images_are_kept(tables: RunDirectory) -> None:
    old = row_of(tables, ORT, {})
    _record(tables, old, dataset_sha256="a", trained=True)
    assert kept_rows(tables, PARITY, MACHINE, [], dataset_sha256="a") == [old]


def test_document_that_was_changed_by_hand_is_not_read(tables: RunDirectory) -> None:
    _record(tables, row_of(tables, ORT, {"n": 1}))
    path = tables.path / PARITY
    path.write_text(path.read_text().replace('"n": 1', '"n": 2'))
    assert kept_rows(tables, PARITY, MACHINE, []) == []


def test_without_an_earlier_document_nothing_is_kept(tables: RunDirectory) -> None:
    assert kept_rows(tables, PARITY, MACHINE, []) == []


def test_row_is_current_until_its_files_change(tables: RunDirectory) -> None:
    row = row_of(tables, ORT, {})
    assert is_current(tables, row)
    _write(tables, int8="another")
    assert is_current(tables, row)
    _write(tables, model="another")
    assert not is_current(tables, row)


def test_table_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / PARITY
    path.write_text(table_text(MACHINE, [{"n": 1}], images=360))
    assert read_table(path) == {"images": 360, "machine": MACHINE, "rows": [{"n": 1}]}
    assert path.read_text().endswith("}\n")


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", '{"rows": []}', '{"machine": {}}'])
def test_file_that_is_no_table_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / PARITY
    path.write_text(text)
    with pytest.raises(UserError, match="not a table of results"):
        read_table(path)


def test_missing_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a table of results"):
        read_table(tmp_path / PARITY)


def test_table_is_json_that_others_read(tables: RunDirectory) -> None:
    document = json.loads(table_text(MACHINE, [row_of(tables, ORT, {})]))
    assert list(document) == ["machine", "rows"]
