from pathlib import Path

import pytest
import zstandard
from fault_injection import publish_engine

from artifacts.run_directory import RunDirectory
from benchmarks.engines import COLUMNS, compressed_size, rows_of
from errors import UserError
from runtimes.tensorrt.plan_layers import Traffic

NAME = "engines/{}.rtx-sm89.engine"


def _publish(run: RunDirectory, precision: str, megabytes: float, kernels: int) -> None:
    traffic = (Traffic(1, 0, kernels, 1.5, 0.5), Traffic(32, 1, kernels, megabytes, 10.0))
    publish_engine(run, NAME.format(precision), targets=("sm89",), traffic=traffic)


def test_a_row_compares_with_fp16_for_the_same_targets(preact_run: RunDirectory) -> None:
    _publish(preact_run, "int8", 60.0, 13)
    _publish(preact_run, "fp8", 100.0, 15)
    _publish(preact_run, "fp16", 90.0, 14)
    rows = [dict(zip(COLUMNS, row, strict=True)) for row in rows_of(RunDirectory(preact_run.path))]
    keys = ("network", "precision", "targets", "kernels", "MB b1", "MB b32", "of FP16's", "verdict")
    assert [tuple(row[key] for key in keys) for row in rows] == [
        ("preact ResNet-8", "fp16", "sm89", "14", "2.0", "100.0", "1.00", "–"),
        ("preact ResNet-8", "int8", "sm89", "13", "2.0", "70.0", "0.70", "expected to pay"),
        ("preact ResNet-8", "fp8", "sm89", "15", "2.0", "110.0", "1.10", "not expected to pay"),
    ]


def test_without_an_fp16_engine_nothing_is_compared(preact_run: RunDirectory) -> None:
    _publish(preact_run, "int8", 60.0, 13)
    ((*_, ratio, _, verdict),) = rows_of(RunDirectory(preact_run.path))
    assert (ratio, verdict) == ("–", "–")


def test_a_run_without_engines_is_refused(preact_run: RunDirectory) -> None:
    with pytest.raises(UserError, match="holds no engine that is up to date"):
        rows_of(preact_run)


def test_the_compressed_size_is_of_what_zstd_makes_of_the_whole_plan(tmp_path: Path) -> None:
    plan = tmp_path / "int8.engine"
    plan.write_bytes(b"a kernel's source, again and again. " * 4000)
    size = compressed_size(plan)
    assert size < 200
    assert size == len(zstandard.compress(plan.read_bytes(), level=19))
