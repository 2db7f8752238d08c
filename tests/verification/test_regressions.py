from copy import deepcopy
from typing import Any

import pytest

from errors import CheckFailed, UserError
from verification.refusal import NOT_RUN, Refusal
from verification.regressions import MARGIN, changes_between, require_comparable

MACHINE = {
    "cpu": "Made Up",
    "instruction_sets": ["AVX2"],
    "cores": 2,
    "gpus": [],
    "system": "Linux, Python 3.11",
}


def row(engine: str, speedup: float | None, low: float = 0, high: float = 0, **more: Any) -> dict[str, Any]:
    return {
        "engine": engine,
        "precision": "fp32",
        "device": "cpu",
        "batch": 1,
        "status": "measured",
        "speedup": speedup,
        "speedup_interval": None if speedup is None else [low, high],
        "over": None if speedup is None else "torch fp32 on cpu",
        "p50_ms": 1.0,
        **more,
    }


def document(*rows: dict[str, Any]) -> dict[str, Any]:
    return {
        "machine": deepcopy(MACHINE),
        "network": {"variant": "preact", "depth": 20, "block": "basic", "classes": 10},
        "options": {"threads": 2, "cuda_graphs": None},
        "rows": [row("torch", 1.0, 1.0, 1.0), *rows],
    }


BEFORE = document(row("ort", 3.1, 3.0, 3.2))


@pytest.mark.parametrize(
    ("speedup", "low", "high", "regressed", "improved"),
    [
        (2.75, 2.7, 2.8, True, False),
        # The intervals lie apart by less than the margin.
        (2.9, 2.85, 2.95, False, False),
        # The interval reaches into the noise of the earlier one.
        (2.0, 1.0, 3.05, False, False),
        (3.1, 3.0, 3.2, False, False),
        (3.3, 3.25, 3.36, False, False),
        (3.5, 3.4, 3.6, False, True),
    ],
)
def test_a_change_lies_outside_the_noise_by_more_than_the_margin(
    speedup: float, low: float, high: float, regressed: bool, improved: bool
) -> None:
    changes = changes_between(BEFORE, document(row("ort", speedup, low, high)))
    assert (bool(changes.regressions), bool(changes.improvements)) == (regressed, improved)
    assert changes.same == 1 - regressed - improved
    assert changes.missing_now == changes.missing_before == ()


def test_margin_is_exact() -> None:
    edge = (1 - MARGIN) * 3.0
    assert not changes_between(BEFORE, document(row("ort", 2.5, 2.4, edge))).regressions
    assert changes_between(BEFORE, document(row("ort", 2.5, 2.4, edge - 1e-9))).regressions


def test_a_machine_that_is_slower_for_all_is_no_regression() -> None:
    slower = document(row("ort", 3.1, 3.0, 3.2, p50_ms=50.0))
    assert changes_between(BEFORE, slower).same == 1


def test_a_change_is_told_with_both_ratios_and_limits() -> None:
    (change,) = changes_between(BEFORE, document(row("ort", 2.0, 1.9, 2.1))).regressions
    assert change.words == "ort fp32 on cpu, batch 1: 3.10× (3.00–3.20) before, 2.00× (1.90–2.10) now"


def test_rows_are_matched_by_engine_precision_device_and_batch() -> None:
    identity = {"engine": "ort", "precision": "fp32", "device": "cpu", "batch": 1}
    for field, other in (("engine", "openvino"), ("precision", "int8"), ("device", "cuda"), ("batch", 8)):
        now = document(row("ort", 1.0, 0.9, 1.1) | {**identity, field: other})
        changes = changes_between(BEFORE, now)
        assert changes.regressions == () and changes.same == 0
        assert changes.missing_now == ("ort fp32 on cpu, batch 1",)
        words = {**identity, field: other}
        assert changes.missing_before == (
            f"{words['engine']} {words['precision']} on {words['device']}, batch {words['batch']}",
        )


def refused(engine: str, precision: str = "fp32", device: str = "cpu", batch: int | None = None) -> Any:
    return Refusal(engine, precision, device, batch, NOT_RUN, "no such provider", "install it").to_row()


@pytest.mark.parametrize("batch", [None, 1])
def test_engine_that_was_asked_for_and_does_not_run_any_more_has_stopped(batch: int | None) -> None:
    changes = changes_between(BEFORE, document(refused("ort", batch=batch)))
    assert (changes.stopped, changes.missing_now) == (("ort fp32 on cpu, batch 1",), ())
    assert changes_between(document(refused("ort")), BEFORE).missing_before == ("ort fp32 on cpu, batch 1",)


@pytest.mark.parametrize(
    "now",
    [
        row("ort", None),
        refused("openvino"),
        refused("ort", precision="int8"),
        refused("ort", device="cuda"),
        refused("ort", batch=8),
    ],
)
def test_row_that_nobody_asked_for_or_that_has_no_ratio_is_missing(now: dict[str, Any]) -> None:
    changes = changes_between(BEFORE, document(now))
    assert (changes.stopped, changes.missing_now) == ((), ("ort fp32 on cpu, batch 1",))


def test_the_original_is_not_compared_with_itself() -> None:
    changes = changes_between(document(), document())
    assert (changes.same, changes.missing_now, changes.missing_before) == (0, (), ())
    bfloat16 = row("torch", 2.0, 1.9, 2.1, precision="bf16")
    assert changes_between(document(bfloat16), document(bfloat16)).same == 1


@pytest.mark.parametrize(
    ("part", "field", "value", "named"),
    [
        ("machine", "cpu", "Other CPU", "Other CPU"),
        ("machine", "instruction_sets", ["AVX2", "AMX"], "AVX2, AMX"),
        ("machine", "cores", 64, "64"),
        ("machine", "gpus", ["NVIDIA L4 (sm89)"], "NVIDIA L4"),
        ("network", "depth", 110, "preact 110 basic 10"),
        ("network", "variant", "original", "original 20"),
        ("options", "threads", 1, r"threads \(1\)"),
        ("options", "cuda_graphs", False, "cuda graphs"),
    ],
)
def test_another_machine_network_or_option_is_refused_in_one_line(
    part: str, field: str, value: Any, named: str
) -> None:
    other = document()
    other[part][field] = value
    with pytest.raises(UserError, match=rf"old.json is of other .*{named}") as refusal:
        require_comparable(other, document(), "old.json")
    assert not isinstance(refusal.value, CheckFailed)
    assert "\n" not in refusal.value.problem


def test_another_python_is_the_same_machine() -> None:
    other = document()
    other["machine"]["system"] = "Linux, Python 3.13"
    require_comparable(other, document(), "old.json")
