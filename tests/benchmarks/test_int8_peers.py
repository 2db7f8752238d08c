"""The script on tiny networks, and the arithmetic of the script on made-up times."""

import sys
from pathlib import Path
from typing import Any

import pytest
from sample_networks import sample_card

from artifacts.files import sha256_of
from artifacts.names import MODEL_INT8_CPU
from artifacts.run_directory import RunDirectory
from benchmarks import int8_peers, peers
from benchmarks.int8_peers import BATCHES, COLUMNS, Absence, Contender, Contest, Times, _rows, ratio_lines
from benchmarks.peers import StaticSetting
from graphs.card import GraphCard
from machine.cpu import adds_products_in_16_bits
from models.config import resnet_config
from runtimes import timing
from runtimes.timing import summary
from verification.compare import Comparison

FIGURES = Comparison(images=10, snr_db=34.56, max_error=0.1, agreement=99.0, accuracy=80.0, drop=0.25)


class FakeRuntime:
    def describe(self) -> dict[str, Any]:
        return {"convolutions": {"QLinearConv": 9, "Conv": 1}}


def _contest(card: GraphCard, milliseconds: dict[tuple[str, str, str], float]) -> tuple[Contest, Times]:
    """Return a contest in which batch 32 takes ten times as long as batch 1, or in ours twenty times."""
    rows = {
        Contender(*key, FakeRuntime(), FIGURES): ms  # type: ignore[arg-type]
        for key, ms in milliseconds.items()
    }
    times = {
        batch: {
            row: summary([ms / 1000 * (1 if batch == 1 else 20 if row.tool == "skipfold" else 10)], batch)
            for row, ms in rows.items()
        }
        for batch in BATCHES
    }
    absent = [Absence("ort", "ModelOpt", "no --modelopt PYTHON was given")]
    return Contest(card, list(rows), absent, None), times  # type: ignore[arg-type]


def _card(variant: str, trained: bool = True, depth: int = 8) -> GraphCard:
    fields = vars(sample_card(resnet_config(variant, depth))) | {"trained": trained}
    return GraphCard(**fields)


TIMES = {
    ("ort", "FP32", "–"): 4.0,
    ("openvino", "FP32", "–"): 6.0,
    ("ort", "skipfold", "percentile 99.999"): 2.0,
    ("openvino", "skipfold", "percentile 99.999"): 1.5,
    ("openvino", "NNCF", "3.4.0, preset mixed"): 1.2,
}


def test_rows_divide_by_float32_in_the_same_runtime() -> None:
    contest, times = _contest(_card("preact"), TIMES)
    rows = _rows(contest, times)
    assert all(len(row) == len(COLUMNS) for row in rows)
    speedups = {(row[0], row[1]): (row[8], row[10]) for row in rows}
    assert speedups["ONNX Runtime", "skipfold"] == ("2.00", "1.00")
    assert speedups["OpenVINO", "skipfold"] == ("4.00", "2.00")
    assert speedups["OpenVINO", "NNCF"] == ("5.00", "5.00")
    assert rows[2][3:8] == ["1 Conv, 9 QLinearConv", "0.25", "99.00", "34.6", "2.00"]
    assert rows[-1][:3] == ["ONNX Runtime", "ModelOpt", "not measured: no --modelopt PYTHON was given"]
    assert set(rows[-1][3:]) == {"–"}


def test_no_accuracy_is_claimed_of_random_weights() -> None:
    contest, times = _contest(_card("preact", trained=False), TIMES)
    assert {tuple(row[4:6]) for row in _rows(contest, times)} == {("–", "–")}
    assert _rows(contest, times)[0][6] == "34.6"


def test_ratios_of_the_bars() -> None:
    preact, times = _contest(_card("preact"), TIMES)
    slower = {key: ms * (0.8 if key[1] == "skipfold" else 1) for key, ms in TIMES.items()}
    original, more = _contest(_card("original"), slower)
    lines = ratio_lines([preact, original], {batch: times[batch] | more[batch] for batch in BATCHES})
    assert lines[:2] == [
        "preact ResNet-8, digits, ONNX Runtime, FP32 over ours: 2.00 at batch 1, 1.00 at batch 32",
        "preact ResNet-8, digits, OpenVINO, NNCF 3.4.0, preset mixed over ours: "
        "0.80 at batch 1, 0.40 at batch 32",
    ]
    assert [line.partition(": ")[2] for line in lines[4:]] == ["1.25 at batch 1, 1.25 at batch 32"] * 2


def test_only_networks_of_one_depth_are_paired() -> None:
    contests = [_contest(_card(v, depth=d), TIMES)[0] for v, d in (("preact", 8), ("original", 14))]
    assert int8_peers._pairs(contests) == []
    assert int8_peers._pairs([contests[0], contests[0]]) == []


def test_script_measures_both_variants_in_one_run(
    trained_runs: dict[str, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """NNCF and ModelOpt are left out, and all messages of `quantize_static` go to standard error."""
    settings = [StaticSetting("QUInt8", "MinMax", False, form) for form in ("QDQ", "QOperator")]
    monkeypatch.setattr(peers, "STATIC_SETTINGS", settings)
    monkeypatch.setattr(timing, "ROUNDS", 1)
    monkeypatch.setattr(int8_peers, "version_of", lambda name: None)
    before = {path: sha256_of(path / MODEL_INT8_CPU) for path in trained_runs.values()}
    names = [str(path) for path in trained_runs.values()]
    options = ["--images", "40", "--seconds", "0", "--threads", "1"]
    monkeypatch.setattr(sys, "argv", ["int8_peers.py", *names, *options])
    int8_peers.main()
    out = capsys.readouterr().out
    table = [line.strip("| ").split(" | ") for line in out.splitlines() if line.startswith("| ")]
    for variant in trained_runs:
        assert f"### {variant} ResNet-8, digits\n\nWeights: trained; 40 test images." in out
    rows = [row for row in table if row[0] in ("ONNX Runtime", "OpenVINO")]
    assert {len(row) for row in rows} == {len(COLUMNS)}
    measured = [row for row in rows if not row[2].startswith("not measured")]
    assert [row[1] for row in measured].count("skipfold") == 4
    assert all(row[8] == row[10] == "1.00" for row in measured if row[1] == "FP32")
    for row in measured:
        # Some settings of `quantize_static` have full 8-bit weights, which saturate without VNNI.
        saturates = row[1] == "quantize_static" and adds_products_in_16_bits()
        assert float(row[6]) > (100 if row[1] == "FP32" else 5 if saturates else 10)
        assert float(row[5]) > 50
    absent = {(row[1], row[2]) for row in rows if row[2].startswith("not measured")}
    assert ("NNCF", "not measured: it is not installed") in absent
    assert out.startswith("Command: `python benchmarks/int8_peers.py digits-")
    assert "--images 40 --seconds 0.0 --threads 1`" in out
    assert "our INT8 over that of the original variant" in out
    with_or_without = "with" if adds_products_in_16_bits() else "without"
    assert out.endswith(f"- x86 CPUs {with_or_without} VNNI: not measured here\n")
    assert {path: sha256_of(path / MODEL_INT8_CPU) for path in before} == before


def test_script_makes_the_graphs_a_run_lacks(
    preact_run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (MODEL_INT8_CPU, "ranges.json"):
        preact_run.discard(name)
    monkeypatch.setattr(int8_peers, "_peers", lambda *_: ([], []))
    monkeypatch.setattr(int8_peers, "latencies", lambda runtimes, *_: {r: summary([1], 1) for r in runtimes})
    monkeypatch.setattr(sys, "argv", ["int8_peers.py", str(preact_run.path), "--images", "5"])
    int8_peers.main()
    assert not (preact_run.path / MODEL_INT8_CPU).exists()
