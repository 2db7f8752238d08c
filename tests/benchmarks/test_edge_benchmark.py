"""The table of the C++ library takes medians over rounds, and each figure from its own place."""

from types import SimpleNamespace
from typing import Any, cast

from benchmarks.edge import TIMES, Round, _row


def printed(scale: float) -> dict:
    """What `skipfold-bench` prints, with figures that tell the columns apart."""
    return {
        "first_open_without_self_test_ms": 100 * scale,
        "open_ms": 200 * scale,
        "infer": {"p50_us": 300 * scale, "p99_us": 400 * scale, "images_per_second": 500 * scale},
        "overhead_percent": {"skf_infer": 1.5 * scale, "same_call_twice": -0.5 * scale},
    }


def test_a_row_has_the_medians_in_the_order_of_the_columns() -> None:
    artifact = cast(Any, SimpleNamespace(id="ort-int8", file="models/x.onnx"))
    document = cast(Any, SimpleNamespace(files={"models/x.onnx": SimpleNamespace(bytes=2_340_000)}))
    rounds = [Round(printed(1), 700), Round(printed(9), 900), Round(printed(2), 600)]
    assert dict(zip(TIMES, _row(document, artifact, rounds), strict=True)) == {
        "artifact": "ort-int8",
        "model MB": "2.34",
        "first open ms": "200",
        "open ms": "400",
        "C++ p50 µs": "600",
        "p99 µs": "800",
        "images/s": "1000",
        "Python p50 µs": "700",
        "over the raw API": "+3.0 %",
        "the raw API twice": "-1.0 %",
    }
