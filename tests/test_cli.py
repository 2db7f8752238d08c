"""The command line as a user meets it: results, exit status, and what bad input gets."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from conftest import TINY_DEPTH, Outcome
from PIL import Image

import cli
from artifacts.names import (
    ACCURACY,
    BENCHMARK,
    CHECKPOINT,
    CHECKPOINT_CARD,
    MODEL,
    MODEL_FP16,
    MODEL_INT8_CPU,
    MODEL_INT8_GPU,
    MODEL_REPARAMETRIZED,
    PARITY,
    RANGES,
    REPORT,
    TRAINING_LOG,
)
from artifacts.run_directory import RunDirectory
from artifacts.versions import version_of
from calibration.plan import Plan, plan_of
from calibration.ranges.methods import Method
from calibration.ranges.ranges_from_graph import ranges_from_graph
from data.dataset import Dataset
from machine.gpu import gpus
from models.checkpoint import card_in
from progress import Description
from training.state import STATE_LOG
from verification import tolerances
from vocabulary import Precision

Skipfold = Callable[..., Outcome]
ROOT = Path(__file__).parents[1]
DEPTH = ("--depth", TINY_DEPTH)
QUICK = ("--seconds", 0.02)

needs_rtx = pytest.mark.skipif(version_of("tensorrt-rtx") is None, reason="tensorrt-rtx is not installed")
without_gpu = pytest.mark.skipif(bool(gpus()), reason="this machine has an NVIDIA GPU")


def snapshot(folder: Path) -> dict[str, bytes]:
    """Content of every file, the lock aside."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".lock"
    }


def assert_refused(outcome: Outcome, *words: str, status: int = 2) -> None:
    """One line that says what is wrong, one that says how to fix it, and no traceback."""
    assert outcome.status == status, outcome
    lines = outcome.err.strip().splitlines()
    assert lines[-2].startswith("error: ") and lines[-1].startswith("  fix: "), outcome.err
    assert "Traceback" not in outcome.err
    for word in words:
        assert word in outcome.err, (word, outcome.err)


def run_in_process(*arguments: object, cwd: Path, **more: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, ROOT / "cli.py", *map(str, arguments)],
        cwd=cwd, capture_output=True, text=True, timeout=300, **more,  # type: ignore[call-overload]
    )  # fmt: skip


def write_picture_folders(folder: Path, count: int = 12) -> None:
    generator = np.random.default_rng(0)
    for name, brightness in (("dark", 40), ("light", 180)):
        (folder / name).mkdir(parents=True)
        for index in range(count):
            # Noise in blocks of 8 x 8: to calibrate on, neighbouring pixels must be alike.
            pixels = generator.integers(0, 60, (5, 6, 3)).repeat(8, 0).repeat(8, 1) + brightness
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{index}.png")


# What works


def test_help_lists_every_command_and_no_arguments_mean_help(skipfold: Skipfold) -> None:
    outcome = skipfold("--help")
    assert outcome.status == 0
    for command in (
        *("train", "analyze", "export", "calibrate", "build", "verify"),
        *("benchmark", "deploy", "predict", "doctor"),
    ):
        assert f"\n  {command} " in outcome.out
    assert skipfold().out == outcome.out


def test_export_without_a_checkpoint_says_that_the_weights_are_random(
    skipfold: Skipfold, tmp_path: Path
) -> None:
    outcome = skipfold("export", *DEPTH, "--json")
    assert outcome.status == 0
    assert "freshly initialised" in outcome.err
    assert outcome.document["trained"] is False
    run = tmp_path / "runs" / f"digits-preact-{TINY_DEPTH}"
    assert json.loads((run / CHECKPOINT_CARD).read_text())["trained"] is False
    assert {MODEL, MODEL_FP16} <= {path.name for path in run.iterdir()}


def test_export_says_what_the_skip_path_is_made_of(skipfold: Skipfold, run: RunDirectory) -> None:
    outcome = skipfold("export", "--run-dir", run.path, "--force")
    assert outcome.status == 0
    expected = "clean" if "preact" in run.path.name else "3 ReLU after the Adds"
    assert expected in outcome.out


def test_a_second_run_of_a_stage_is_up_to_date(skipfold: Skipfold, preact_run: RunDirectory) -> None:
    for command in ("export", "calibrate"):
        before = (preact_run.path / MODEL).stat().st_mtime_ns
        assert "up to date" in skipfold(command, *DEPTH).out
        assert (preact_run.path / MODEL).stat().st_mtime_ns == before


def test_other_options_redo_a_stage(skipfold: Skipfold, preact_run: RunDirectory) -> None:
    before = json.loads((preact_run.path / RANGES).read_text())
    outcome = skipfold("calibrate", *DEPTH, "--method", "minmax")
    assert outcome.status == 0 and "up to date" not in outcome.out
    after = json.loads((preact_run.path / RANGES).read_text())
    assert (before["method"]["name"], after["method"]["name"]) == ("percentile", "minmax")


def test_calibrate_records_what_was_asked_for(skipfold: Skipfold, preact_run: RunDirectory) -> None:
    outcome = skipfold(
        *("calibrate", *DEPTH, "--method", "percentile", "--percentile", 99.9, "--stream", "fp32"),
        *("--reparametrize", "equalize,centre", "--no-bias-correction", "--saturation", "proved"),
    )
    assert outcome.status == 0
    assert "percentile 99.9, centre+equalize: " in outcome.out
    run = RunDirectory(preact_run.path)
    assert plan_of(run) == Plan(
        method=Method("percentile", 99.9),
        passes=("centre", "equalize"),
        stream="fp32",
        saturation="proved",
        correct_bias=False,
    )
    for engine in ("ort", "openvino"):
        assert skipfold("verify", *DEPTH, "--engine", engine, "--precision", "int8").status == 0


@pytest.mark.parametrize(
    ("options", "passes", "words"),
    [((), ("absorb", "equalize"), "absorb+equalize"), (("--reparametrize", "none"), (), "as exported")],
)
def test_reparametrization_is_a_choice(
    skipfold: Skipfold,
    preact_run: RunDirectory,
    options: tuple[str, ...],
    passes: tuple[str, ...],
    words: str,
) -> None:
    outcome = skipfold("calibrate", *DEPTH, "--force", *options)
    assert (outcome.status, words in outcome.out) == (0, True)
    assert plan_of(RunDirectory(preact_run.path)) == Plan(passes=passes)
    operators = {node.op_type for node in onnx.load(preact_run.path / MODEL_REPARAMETRIZED).graph.node}
    assert ("BatchNormalization" in operators) == (not passes)


def test_bias_correction_is_on_and_can_be_left_out(skipfold: Skipfold, preact_run: RunDirectory) -> None:
    before = (preact_run.path / MODEL_INT8_CPU).read_bytes()
    assert "up to date" in skipfold("calibrate", *DEPTH, "--bias-correction").out
    outcome = skipfold("calibrate", *DEPTH, "--no-bias-correction")
    assert outcome.status == 0 and "up to date" not in outcome.out
    assert (preact_run.path / MODEL_INT8_CPU).read_bytes() != before
    assert skipfold("calibrate", *DEPTH).status == 0
    assert (preact_run.path / MODEL_INT8_CPU).read_bytes() == before


def test_commands_take_the_newest_run_where_none_is_chosen(
    skipfold: Skipfold, preact_run: RunDirectory
) -> None:
    outcome = skipfold("verify", "--engine", "ort", "--precision", "fp32")
    assert outcome.status == 0
    assert f"{Path('runs') / preact_run.path.name}, the newest" in outcome.out


def test_verify_and_benchmark_leave_tables(skipfold: Skipfold, run: RunDirectory) -> None:
    chosen = ("--run-dir", run.path, "--engine", "ort", "--engine", "openvino")
    verified = skipfold("verify", *chosen, "--json")
    assert verified.status == 0
    assert [(row["engine"], row["precision"]) for row in verified.document["rows"]] == [
        ("ort", "fp32"), ("ort", "int8"), ("openvino", "fp32"), ("openvino", "int8"),
    ]  # fmt: skip
    timed = skipfold("benchmark", *chosen, "--seconds", 0.02, "--json")
    assert timed.status == 0
    rows = timed.document["rows"]
    assert {row["engine"] for row in rows} == {"torch", "ort", "openvino"}
    assert {row["batch"] for row in rows} == {1, 8, 32}
    assert all(row["p50_ms"] <= row["p90_ms"] <= row["p99_ms"] for row in rows)
    assert {PARITY, ACCURACY, BENCHMARK} <= set(RunDirectory(run.path).recorded())


def test_verify_exits_1_where_an_artifact_is_out_of_tolerance(
    skipfold: Skipfold, preact_run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    impossible = tolerances.Tolerance(500, 500, 100, 0, "no float32 arithmetic is that exact")
    monkeypatch.setitem(tolerances.TOLERANCES, "fp32", impossible)
    outcome = skipfold("verify", *DEPTH, "--engine", "ort", "--precision", "fp32")
    assert outcome.status == 1
    assert "FAIL: signal to noise" in outcome.out


@needs_rtx
@without_gpu
def test_benchmark_of_trt_without_a_gpu_names_the_engine_it_built(
    skipfold: Skipfold, preact_run: RunDirectory
) -> None:
    outcome = skipfold("benchmark", "--engine", "trt")
    assert_refused(outcome, "no NVIDIA driver", "--engine ort", "--engine openvino")
    named = outcome.err.split("the engine ")[1].split(" is built")[0]
    assert Path(named).is_file()
    assert len(list((preact_run.path / "engines").glob("*.engine"))) == len(Precision)


@needs_rtx
@without_gpu
def test_deploy_does_what_this_machine_can_and_says_what_it_left_out(
    skipfold: Skipfold, run: RunDirectory
) -> None:
    first = skipfold("deploy", "--run-dir", run.path, "--target", "sm89", *QUICK)
    assert first.status == 0, first
    assert "not run" in first.out and "skipped    trt" in first.out
    page = (run.path / REPORT).read_text()
    assert "reference" in page and "<svg" in page
    again = skipfold("deploy", "--run-dir", run.path, "--target", "sm89", *QUICK, "--json")
    assert again.status == 0
    assert again.err.count("up to date") == 10  # train, export, calibrate, five engines, verify, benchmark
    lines = {(line["engine"], line["precision"]): line for line in again.document["lines"]}
    assert lines["ort", "int8"]["verdict"] == "pass"
    assert lines["trt", "int8"]["latency_ms"] is None
    assert lines["reference", "int8"]["latency_ms"] is None


def test_deploy_goes_on_where_no_engine_can_be_built(
    skipfold: Skipfold, preact_run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runtimes.tensorrt.package.version_of", lambda package: None)
    outcome = skipfold("deploy", *DEPTH, *QUICK)
    assert outcome.status == 0
    assert "skipped    build: " in outcome.out and "pip install tensorrt" in outcome.out


def test_export_takes_over_a_checkpoint(
    skipfold: Skipfold, trained_runs: dict[str, Path], tmp_path: Path
) -> None:
    source = trained_runs["original"]
    outcome = skipfold("export", "--checkpoint", source / CHECKPOINT)
    assert outcome.status == 0, outcome
    target = tmp_path / "runs" / source.name
    assert (target / CHECKPOINT).read_bytes() == (source / CHECKPOINT).read_bytes()


def test_deploy_of_ones_own_pictures(skipfold: Skipfold, tmp_path: Path) -> None:
    write_picture_folders(tmp_path / "pictures", count=70)
    own = ("--dataset", "imagefolder", "--data-dir", tmp_path / "pictures", *DEPTH)
    outcome = skipfold("deploy", *own, "--recipe", "digits", "--epochs", 3, *QUICK, "--json")
    assert outcome.status == 0, outcome
    assert outcome.document["card"]["classes"] == ["dark", "light"]
    picture = tmp_path / "pictures" / "light" / "0.png"
    predicted = skipfold("predict", picture, *own, "--json").document["predictions"]
    assert [entry["class"] for entry in predicted[0]["classes"]] == ["light", "dark"]


def test_predict_names_the_class(
    skipfold: Skipfold, preact_run: RunDirectory, digits: Dataset, tmp_path: Path
) -> None:
    for index in range(8):
        pixels = digits.test.images[index].transpose(1, 2, 0)
        Image.fromarray(pixels).save(tmp_path / f"{index}.png")
    pictures = [tmp_path / f"{index}.png" for index in range(8)]
    found = {}
    for precision in ("fp32", "int8"):
        outcome = skipfold("predict", *pictures, *DEPTH, "--precision", precision, "--top", 1, "--json")
        found[precision] = [entry["classes"][0]["class"] for entry in outcome.document["predictions"]]
    right = np.array(found["fp32"]) == digits.test.labels[:8].astype(str)
    assert right.mean() >= 0.75
    assert sum(a == b for a, b in zip(found["fp32"], found["int8"], strict=True)) >= 7


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


# What is wrong, and what is said


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
        (("train", "--epochs", 0), ("0 epochs",)),
        (("train", "--dataset", "cifar10", "--data-dir", "nowhere"), ("nowhere is not a folder",)),
        (("train", "--dataset", "imagefolder"), ("--data-dir",)),
        (("calibrate", *DEPTH, "--method", "guess"), ("method 'guess'", "percentile")),
        (("calibrate", *DEPTH, "--percentile", 120), ("percentile 120",)),
        (
            ("calibrate", *DEPTH, "--method", "minmax", "--percentile", 99.9),
            ("99.9, for the method 'minmax', which has none", "--percentile"),
        ),
        (("deploy", *DEPTH, "--method", "mse", "--percentile", 99.9), ("method 'mse'", "--percentile")),
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


def test_a_truncated_parquet_file(skipfold: Skipfold, tmp_path: Path) -> None:
    for split in ("train", "test"):
        (tmp_path / f"{split}-00000-of-00001.parquet").write_bytes(b"PAR1 and then nothing")
    outcome = skipfold("train", "--dataset", "cifar10", "--data-dir", tmp_path)
    assert_refused(outcome, "train-00000-of-00001.parquet", "cannot be read as parquet")
    assert not (tmp_path / "runs").exists()


def test_a_picture_that_is_none(skipfold: Skipfold, preact_run: RunDirectory, tmp_path: Path) -> None:
    (tmp_path / "cat.png").write_text("not a cat")
    assert_refused(skipfold("predict", tmp_path / "cat.png"), "cat.png is not a readable image")
    assert_refused(skipfold("predict", tmp_path / "dog.png"), "dog.png cannot be read")


def test_a_broken_picture_in_a_folder_of_classes(skipfold: Skipfold, tmp_path: Path) -> None:
    write_picture_folders(tmp_path / "pictures")
    (tmp_path / "pictures" / "dark" / "3.png").write_bytes(b"\x89PNG and then nothing")
    outcome = skipfold("train", "--dataset", "imagefolder", "--data-dir", tmp_path / "pictures")
    assert_refused(outcome, "3.png is not a readable image")


def test_an_onnx_file_that_was_replaced(skipfold: Skipfold, preact_run: RunDirectory) -> None:
    (preact_run.path / MODEL).write_bytes(b"this is no ONNX file")
    outcome = skipfold("verify", *DEPTH, "--engine", "ort", "--precision", "fp32")
    assert_refused(outcome, f"{MODEL} is not the file that `export` wrote", "export --force")


def test_an_onnx_file_of_another_network(
    skipfold: Skipfold, preact_run: RunDirectory, trained_runs: dict[str, Path]
) -> None:
    manifest = json.loads((preact_run.path / "manifest.json").read_text())
    other = json.loads((trained_runs["original"] / "manifest.json").read_text())
    shutil.copy(trained_runs["original"] / MODEL, preact_run.path / MODEL)
    made_from = manifest["files"][MODEL]["inputs"]
    manifest["files"][MODEL] = other["files"][MODEL] | {"inputs": made_from}
    (preact_run.path / "manifest.json").write_text(json.dumps(manifest))
    outcome = skipfold("verify", *DEPTH, "--engine", "ort", "--precision", "fp32")
    assert_refused(outcome, f"{MODEL} is another network than {CHECKPOINT}")


def test_a_checkpoint_of_another_depth(skipfold: Skipfold, preact_run: RunDirectory) -> None:
    outcome = skipfold("export", "--depth", 14, "--run-dir", preact_run.path)
    assert_refused(outcome, "holds a preact ResNet-8", "not preact ResNet-14")
    outcome = skipfold("export", "--depth", 14, "--checkpoint", preact_run.path / CHECKPOINT)
    assert_refused(outcome, "holds a preact ResNet-8", "not preact ResNet-14")


def test_a_checkpoint_of_another_number_of_classes(
    skipfold: Skipfold, preact_run: RunDirectory, tmp_path: Path
) -> None:
    shutil.copy(preact_run.path / CHECKPOINT, tmp_path / "weights.safetensors")
    card = json.loads((preact_run.path / CHECKPOINT_CARD).read_text())
    card["model"]["num_classes"] = 7
    card["classes"] = card["classes"][:7]
    (tmp_path / "weights.json").write_text(json.dumps(card))
    outcome = skipfold("export", "--checkpoint", tmp_path / "weights.safetensors", "--run-dir", "new")
    assert_refused(outcome, "another network", "classifier.weight is [10, 64], not [7, 64]")
    assert not (tmp_path / "new").exists()


def test_a_run_of_another_data_set(skipfold: Skipfold, preact_run: RunDirectory, tmp_path: Path) -> None:
    outcome = skipfold("verify", "--run-dir", preact_run.path, "--dataset", "imagefolder")
    assert_refused(outcome, "digits", "imagefolder")


def test_trained_weights_are_not_replaced_unasked(skipfold: Skipfold, preact_run: RunDirectory) -> None:
    before = snapshot(preact_run.path)
    assert_refused(skipfold("train", *DEPTH, "--epochs", 1), "other trained weights", "--force")
    assert snapshot(preact_run.path) == before
    assert skipfold("train", *DEPTH, "--epochs", 1, "--force").status == 0


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


# Ctrl-C


@pytest.mark.parametrize(
    "arguments",
    [
        ("train", *DEPTH, "--epochs", 2, "--force"),
        ("calibrate", *DEPTH, "--force"),
        pytest.param(("build", *DEPTH, "--precision", "fp32"), marks=needs_rtx),
        ("verify", *DEPTH, "--engine", "ort"),
        ("benchmark", *DEPTH, "--engine", "ort"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_ctrl_c_leaves_the_run_as_it_was(
    skipfold: Skipfold,
    preact_run: RunDirectory,
    arguments: tuple[object, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    before = snapshot(preact_run.path)
    with monkeypatch.context() as patch:
        patch.setattr(cli.Screen, "progress", interrupt)
        outcome = skipfold(*arguments)
    assert outcome.status == 130
    assert "interrupted" in outcome.err and "Traceback" not in outcome.err
    assert snapshot(preact_run.path) == before


# Says when it is in its third epoch and waits there for the signal, however slowly the test gets its turns.
TRAINS_UNTIL_CTRL_C = """
import pathlib, time, cli
def progress(self, items, description, total=None):
    for item in items:
        yield item
        while callable(description) and description().startswith("epoch 3/"):
            pathlib.Path("waiting").touch()
            time.sleep(0.05)
cli.Screen.progress = progress
cli.main()
"""


def test_training_goes_on_after_a_real_ctrl_c(tmp_path: Path) -> None:
    options = ("train", *DEPTH, "--epochs", 6, "--quiet")
    run = tmp_path / "runs" / f"digits-preact-{TINY_DEPTH}"
    process = subprocess.Popen(
        [sys.executable, "-c", TRAINS_UNTIL_CTRL_C, *map(str, options)],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        # Where the tests themselves run in the background, Ctrl-C is ignored, and that is inherited.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 600
    while not (tmp_path / "waiting").exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    assert process.wait(600) == 130
    card = card_in(RunDirectory(run))
    assert card.is_interrupted and card.training["epochs_done"] == 2
    assert run_in_process(*options, cwd=tmp_path).returncode == 0
    straight = tmp_path / "straight"
    assert run_in_process(*options, "--run-dir", straight, cwd=tmp_path).returncode == 0
    assert (run / CHECKPOINT).read_bytes() == (straight / CHECKPOINT).read_bytes()


def test_an_interrupted_retraining_leaves_the_finished_one(
    skipfold: Skipfold, preact_run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    retrain = ("train", *DEPTH, "--epochs", 2, "--seed", 1, "--force")
    before = {name: (preact_run.path / name).read_bytes() for name in (CHECKPOINT, TRAINING_LOG)}
    progress = cli.Screen.progress

    def interrupted_in_epoch_2(
        self: cli.Screen, items: object, description: Description, total: int
    ) -> object:
        if callable(description) and description().startswith("epoch 2"):
            raise KeyboardInterrupt
        return progress(self, items, description, total)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(cli.Screen, "progress", interrupted_in_epoch_2)
        assert skipfold(*retrain).status == 130
    assert {name: (preact_run.path / name).read_bytes() for name in before} == before
    assert (preact_run.path / STATE_LOG).read_text().count("\n") == 1
    assert skipfold(*retrain).status == 0
    assert not (preact_run.path / STATE_LOG).exists()
    assert (preact_run.path / TRAINING_LOG).read_text().count("\n") == 2


def test_int8_files_are_written_for_both_kinds_of_target(preact_run: RunDirectory) -> None:
    assert {MODEL_INT8_CPU, MODEL_INT8_GPU} <= set(preact_run.recorded())


def test_verify_of_a_file_proves_or_names_what_saturates(
    skipfold: Skipfold, preact_run: RunDirectory
) -> None:
    outcome = skipfold("verify", "--file", preact_run.path / MODEL_INT8_CPU, "--json")
    assert outcome.status == 1
    verdicts = {entry["node"]: entry["verdict"] for entry in outcome.document["operators"]}
    assert (verdicts["stem.conv"], verdicts["stage1.0.residual.conv2"]) == ("free", "can saturate")
    assert skipfold("calibrate", *DEPTH, "--saturation", "proved").status == 0
    outcome = skipfold("verify", "--file", preact_run.path / MODEL_INT8_CPU)
    assert outcome.status == 0
    assert "saturation-free" in outcome.out


def test_verify_of_a_file_without_integer_convolutions(skipfold: Skipfold, preact_run: RunDirectory) -> None:
    for name, problem in ((MODEL, "holds no integer convolution"), (CHECKPOINT, "is not a valid ONNX file")):
        outcome = skipfold("verify", "--file", preact_run.path / name)
        assert outcome.status == 2
        assert problem in outcome.err


def test_calibration_is_repeated_as_it_was(
    skipfold: Skipfold, preact_run: RunDirectory, digits: Dataset
) -> None:
    skipfold("calibrate", *DEPTH, "--saturation", "proved")
    ranges_from_graph(RunDirectory(preact_run.path), digits, Method("minmax"))
    assert skipfold("verify", *DEPTH, "--engine", "ort", "--precision", "int8").status == 0
    record = RunDirectory(preact_run.path).record(MODEL_INT8_CPU)
    assert record.options["saturation"] == "proved"
