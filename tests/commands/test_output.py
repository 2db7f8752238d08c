"""What every command has in common: one line for what is wrong, JSON, and quiet."""

import json
import os
import resource
from pathlib import Path

import pytest
from command_line import (
    DEPTH,
    Skipfold,
    assert_refused,
    run_in_process,
    snapshot,
)
from conftest import Outcome

from artifacts.names import (
    MODEL,
)
from artifacts.run_directory import RunDirectory
from artifacts.versions import version_of
from machine.gpu import gpus


def test_a_second_run_of_a_stage_is_up_to_date(skipfold: Skipfold, preact_run: RunDirectory) -> None:
    for command in ("export", "calibrate"):
        before = (preact_run.path / MODEL).stat().st_mtime_ns
        assert "up to date" in skipfold(command, *DEPTH).out
        assert (preact_run.path / MODEL).stat().st_mtime_ns == before


def test_json_is_one_document_and_quiet_is_quiet(skipfold: Skipfold, preact_run: RunDirectory) -> None:
    for arguments in (
        ("train", *DEPTH, "--epochs", 1, "--force"),
        ("export", *DEPTH),
        ("calibrate", *DEPTH),
        ("doctor",),
    ):
        assert json.loads(skipfold(*arguments, "--json").out)["command"] == arguments[0]
    outcome = skipfold("export", *DEPTH, "--quiet")
    assert (outcome.status, outcome.out, outcome.err) == (0, "", "")


def test_doctor_says_what_is_missing(skipfold: Skipfold) -> None:
    found = {entry["task"]: entry for entry in skipfold("doctor", "--json").document["capabilities"]}
    assert found["train on the CPU"]["able"] and found["run ort on the CPU"]["able"]
    assert found["run trt"]["able"] == bool(gpus()) or found["run trt"]["fix"]
    assert all(entry["able"] or entry["fix"] for entry in found.values())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("export", "--depth", 21), ("depth 21", "20 or 26 basic", "20 or 29 bottleneck")),
        (("export", "--depth", 164, "--block", "wide"), ("--block",)),
        (("export", "--depth", "deep"), ("--depth",)),
        (("export", "--depth", 1001, "--block", "basic"), ("depth 1001", "998 or 1004")),
        (("frobnicate",), ("frobnicate",)),
        (("predict",), ("images",)),
        (("train", "--recipe", "secret"), ("recipe 'secret'", "modern")),
        (("train", "--epochs", 0), ("--epochs 0 trains nothing",)),
        (("train", "--dataset", "cifar10", "--data-dir", "nowhere"), ("nowhere is not a folder",)),
        (("train", "--dataset", "imagefolder"), ("--data-dir",)),
        (("calibrate", *DEPTH, "--method", "guess"), ("method 'guess'", "percentile")),
        (
            ("calibrate", *DEPTH, "--percentile", 120),
            ("--percentile must be over 50 and at most 100, got 120",),
        ),
        (
            ("calibrate", *DEPTH, "--method", "minmax", "--percentile", 99.9),
            (
                "--percentile 99.9 was given, and --method minmax takes no percentile",
                "leave --percentile out",
            ),
        ),
        (
            ("deploy", *DEPTH, "--method", "mse", "--percentile", 99.9),
            ("--method mse takes no percentile", "leave --percentile out"),
        ),
        (("calibrate", *DEPTH, "--reparametrize", "fold"), ("'fold'", "none", "absorb,centre,equalize")),
        (("calibrate", *DEPTH, "--stream", "bf16"), ("--stream",)),
        (("calibrate", *DEPTH, "--saturation", "all"), ("--saturation",)),
        (("build", *DEPTH, "--precision", "fp32", "--target", "sm90"), ("target 'sm90'", "sm89")),
        (("build", *DEPTH, "--precision", "fp8", "--target", "sm86"), ("sm86 has no fp8", "sm89, sm120")),
        (("verify", *DEPTH, "--engine", "ort", "--precision", "fp16"), ("ort cannot run fp16 on cpu",)),
        (("verify", *DEPTH, "--engine", "torch", "--precision", "int8"), ("torch cannot run int8",)),
    ],
)
def test_wrong_usage_gets_one_line_and_the_fix(
    skipfold: Skipfold, preact_run: RunDirectory, arguments: tuple[object, ...], words: tuple[str, ...]
) -> None:
    if arguments[0] == "build" and version_of("tensorrt-rtx") is None:
        pytest.skip("tensorrt-rtx is not installed")
    before = snapshot(preact_run.path)
    assert_refused(skipfold(*arguments), *words)
    assert snapshot(preact_run.path) == before


def test_errors_are_json_too(skipfold: Skipfold) -> None:
    outcome = skipfold("export", "--depth", 21, "--json")
    assert outcome.status == 2
    assert set(outcome.document["error"]) == {"problem", "fix"}


def test_a_run_directory_that_cannot_be_made(skipfold: Skipfold, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert_refused(skipfold("export", *DEPTH, "--run-dir", "file"), "file is not a folder", "--run-dir")
    assert_refused(skipfold("export", *DEPTH, "--run-dir", "file/run"), "--run-dir")


@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may write anywhere")
def test_an_unwritable_run_directory(skipfold: Skipfold, tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    assert_refused(skipfold("export", *DEPTH, "--run-dir", locked / "run"), "cannot write", "--run-dir")


def test_a_full_disk_leaves_the_run_as_it_was(preact_run: RunDirectory, tmp_path: Path) -> None:
    # A limit on the size of files meets the same code path as a full disk: write() fails half-way.
    before = snapshot(preact_run.path)
    half = (preact_run.path / MODEL).stat().st_size // 2
    done = run_in_process(
        "export", *DEPTH, "--force", cwd=tmp_path,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (half, half)),
    )  # fmt: skip
    assert_refused(Outcome(done.returncode, done.stdout, done.stderr), "cannot write", "nothing was changed")
    assert snapshot(preact_run.path) == before
