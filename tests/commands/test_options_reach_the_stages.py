"""Every option of a command reaches the stage it is for.

Each command line is run up to that stage and no further; what the stage does with the option is tested
where the stage is. Longer than 300 lines because every option of every command has a row here.
"""

from pathlib import Path
from typing import Any

import pytest
from command_line import DEPTH, Skipfold
from PIL import Image
from recorded_calls import Arguments, ReachedError, stopped_at

from artifacts.names import CHECKPOINT, MODEL, MODEL_INT8_CPU
from artifacts.run_directory import RunDirectory
from calibration.plan import Plan
from calibration.ranges.methods import Method
from commands.screen import Screen
from runtimes.subjects import Subject
from training.recipes import recipe_from_name
from verification.latency import BATCH_SIZES
from vocabulary import Device, Precision, Saturation
from workflow.options import (
    BuildOptions,
    BundleOptions,
    DeviceOptions,
    LimitOptions,
    QuantizeOptions,
    RedoOptions,
    RunOptions,
    RuntimeOptions,
    SubjectOptions,
    TimingOptions,
    TrainingOptions,
    WeightsOptions,
)

VERIFY = "verification.verify.verdicts_from_artifacts"
BENCHMARK = "verification.latency.benchmark_from_artifacts"
SEARCH = "calibration.searching.search.search_from_graph"
QUANTIZE = "calibration.plan.quantized_from_graph"
BUILD = "runtimes.tensorrt.engine_from_onnx.engine_from_onnx"
EXPORT = "export.graph_from_checkpoint.graph_from_checkpoint"
TRAIN = "training.checkpoint_from_dataset.checkpoint_from_dataset"
INITIALISE = "training.checkpoints.checkpoint_from_initialisation"
OPEN = "runtimes.subjects.open_subject"
BUNDLE = "workflow.bundle.bundled"
ASSEMBLE = "bundling.assemble.bundle_from_run"
ANALYZE = "analysis.both_variants.analysis_from_networks"

ORT = ("--engine", "ort")
INT8 = Subject("ort", "int8", MODEL_INT8_CPU, "cpu")
ON_CUDA = Subject("ort", "fp32", MODEL, "cuda")


def reached(skipfold: Skipfold, monkeypatch: pytest.MonkeyPatch, place: str, *command: object) -> Arguments:
    calls = stopped_at(monkeypatch, place)
    with pytest.raises(ReachedError):
        skipfold(*command)
    (arguments,) = calls
    return arguments


@pytest.mark.parametrize(
    ("place", "command", "given", "expected"),
    [
        (place, command, given, expected)
        for place, command in ((VERIFY, "verify"), (BENCHMARK, "benchmark"))
        for given, expected in (
            ((), {"threads": None, "allow_saturation": False, "force": False}),
            (("--threads", 3), {"threads": 3, "allow_saturation": False}),
            (("--allow-saturation",), {"allow_saturation": True, "force": False}),
            (("--force",), {"allow_saturation": False, "force": True}),
            ((*ORT, "--precision", "int8"), {"subjects": [INT8]}),
            ((*ORT, "--precision", "fp32", "--device", "cuda"), {"subjects": [ON_CUDA]}),
        )
    ]
    + [
        (VERIFY, "verify", (), {"cuda_graphs": None}),
        (VERIFY, "verify", ("--no-cuda-graphs",), {"cuda_graphs": False}),
        (BENCHMARK, "benchmark", (), {"batches": BATCH_SIZES, "cuda_graphs": None}),
        (BENCHMARK, "benchmark", ("--batch", 4, "--batch", 2), {"batches": [4, 2]}),
        (BENCHMARK, "benchmark", ("--no-cuda-graphs",), {"cuda_graphs": False}),
        (BENCHMARK, "benchmark", (), {"seconds": 1.0}),
        (BENCHMARK, "benchmark", ("--seconds", 0.25), {"seconds": 0.25}),
        (SEARCH, "calibrate", ("--search",), {"threads": None, "allow_saturation": False, "force": False}),
        (SEARCH, "calibrate", ("--search", "--threads", 3), {"threads": 3}),
        (SEARCH, "calibrate", ("--search", "--allow-saturation"), {"allow_saturation": True, "force": False}),
        (SEARCH, "calibrate", ("--search", "--force"), {"allow_saturation": False, "force": True}),
        (SEARCH, "calibrate", ("--search", "--max-drop", 0), {"max_drop": 0}),
        (SEARCH, "calibrate", ("--search", "--saturation", "proved"), {"base": Plan(saturation="proved")}),
        (SEARCH, "calibrate", ("--search", "--no-bias-correction"), {"base": Plan(correct_bias=False)}),
        (QUANTIZE, "calibrate", (), {"plan": Plan(), "force": False}),
        (QUANTIZE, "calibrate", ("--method", "mse", "--force"), {"plan": Plan(Method("mse")), "force": True}),
        (BUILD, "build", ("--precision", "fp32"), {"targets": (), "builder_name": None, "force": False}),
        (BUILD, "build", ("--precision", "int8", "--force"), {"precision": "int8", "force": True}),
        (BUILD, "build", ("--precision", "fp32", "--target", "sm89,sm120"), {"targets": ("sm89", "sm120")}),
        (BUILD, "build", ("--precision", "fp32", "--builder", "tensorrt"), {"builder_name": "tensorrt"}),
        (EXPORT, "export", (), {"force": False}),
        (EXPORT, "export", ("--force",), {"force": True}),
    ],
)
def test_option_reaches_the_stage_on_a_run(
    skipfold: Skipfold,
    preact_run: RunDirectory,
    monkeypatch: pytest.MonkeyPatch,
    place: str,
    command: str,
    given: tuple[object, ...],
    expected: dict[str, Any],
) -> None:
    arguments = reached(skipfold, monkeypatch, place, command, "--run-dir", preact_run.path, *given)
    assert arguments["run"].path == preact_run.path
    assert {name: arguments[name] for name in expected} == expected
    if place != EXPORT:  # it has no loop to report on
        assert isinstance(arguments["progress"].__self__, Screen)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ((), {"seed": 0, "force": False}),
        (("--seed", 7), {"seed": 7}),
        (("--force",), {"force": True}),
        (("--recipe", "smoke"), {"recipe": recipe_from_name("smoke", 8)}),
    ],
)
def test_option_reaches_the_training(
    skipfold: Skipfold,
    monkeypatch: pytest.MonkeyPatch,
    given: tuple[object, ...],
    expected: dict[str, Any],
) -> None:
    arguments = reached(skipfold, monkeypatch, TRAIN, "train", *DEPTH, *given)
    assert {name: arguments[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("given", "part", "field", "value"),
    [
        (("--epochs", 5), "recipe", "epochs", 5),
        (("--peak-rate", 0.5), "recipe", "peak_rate", 0.5),
        (("--device", "cuda"), "execution", "device", "cuda"),
        (("--arithmetic", "fp32"), "execution", "arithmetic", "fp32"),
        (("--recompute",), "execution", "recompute", True),
        (("--no-recompute",), "execution", "recompute", False),
        (("--compile",), "execution", "compiled", True),
        (("--no-resume",), "execution", "resume", False),
    ],
)
def test_option_reaches_how_the_training_is_run(
    skipfold: Skipfold,
    monkeypatch: pytest.MonkeyPatch,
    given: tuple[object, ...],
    part: str,
    field: str,
    value: object,
) -> None:
    without = reached(skipfold, monkeypatch, TRAIN, "train", *DEPTH)
    arguments = reached(skipfold, monkeypatch, TRAIN, "train", *DEPTH, *given)
    assert getattr(arguments[part], field) == value != getattr(without[part], field)


def test_options_reach_the_deployment(skipfold: Skipfold, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = reached(
        *(skipfold, monkeypatch, "workflow.deploy.deploy", "deploy", *DEPTH, "--seed", 7, "--epochs", 5),
        *("--saturation", "proved", "--max-drop", 2.5, "--target", "sm89", "--device", "cuda"),
        *("--threads", 3, "--seconds", 0.25, "--no-cuda-graphs", "--force"),
    )
    assert isinstance(arguments.pop("listener"), Screen)
    assert arguments == {
        "run": RunOptions(depth=8),
        "weights": WeightsOptions(seed=7),
        "training": TrainingOptions(epochs=5),
        "quantize": QuantizeOptions(saturation=Saturation.proved),
        "limit": LimitOptions(max_drop=2.5),
        "build": BuildOptions(target="sm89"),
        "device": DeviceOptions(Device.cuda),
        "runtime": RuntimeOptions(threads=3, cuda_graphs=False),
        "timing": TimingOptions(seconds=0.25),
        "redo": RedoOptions(force=True),
    }


def test_options_reach_the_bundle(
    skipfold: Skipfold, preact_run: RunDirectory, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    arguments = reached(
        *(skipfold, monkeypatch, BUNDLE, "bundle", "--run-dir", preact_run.path, *ORT, "--precision", "int8"),
        *("--out", tmp_path / "out", "--unverified", "--archive", "--sign", tmp_path / "key"),
        *("--u8", "--static-batch", 4, "--triton", "--web"),
        *("--threads", 3, "--allow-saturation"),
    )
    assert arguments.pop("session").run.path == preact_run.path
    assert arguments == {
        "subjects": SubjectOptions(engine=["ort"], precision=[Precision.int8]),
        "options": BundleOptions(
            out=tmp_path / "out",
            unverified=True,
            u8=True,
            static_batch=4,
            archive=True,
            triton=True,
            web=True,
            sign=tmp_path / "key",
        ),
        "runtime": RuntimeOptions(threads=3, allow_saturation=True),
    }


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ((), {"threads": None, "allow_saturation": False}),
        (("--threads", 3), {"threads": 3, "allow_saturation": False}),
        (("--allow-saturation",), {"threads": None, "allow_saturation": True}),
    ],
)
def test_options_reach_the_runtimes_that_compute_golden_logits(
    skipfold: Skipfold,
    preact_run: RunDirectory,
    monkeypatch: pytest.MonkeyPatch,
    given: tuple[object, ...],
    expected: dict[str, Any],
) -> None:
    command = ("bundle", "--run-dir", preact_run.path, *ORT, "--precision", "int8", *given)
    arguments = reached(skipfold, monkeypatch, ASSEMBLE, *command)
    assert arguments["run"].path == preact_run.path
    assert [candidate.subject for candidate in arguments["candidates"]] == [INT8]
    assert len(arguments["test"]) == 360
    assert {name: arguments[name] for name in expected} == expected


@pytest.mark.parametrize("given", [("--threads", 3), ("--allow-saturation",)])
def test_options_reach_the_verdicts_that_a_bundle_needs(
    skipfold: Skipfold, preact_run: RunDirectory, monkeypatch: pytest.MonkeyPatch, given: tuple[object, ...]
) -> None:
    arguments = reached(skipfold, monkeypatch, VERIFY, "bundle", "--run-dir", preact_run.path, *ORT, *given)
    assert arguments["threads"] == (3 if "--threads" in given else None)
    assert arguments["allow_saturation"] == ("--allow-saturation" in given)


def test_the_key_and_the_place_reach_the_writing(
    skipfold: Skipfold, bundled_run: RunDirectory, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    command = (
        "bundle",
        "--run-dir",
        bundled_run.path,
        *ORT,
        "--sign",
        tmp_path / "key",
        "--out",
        tmp_path / "out",
    )
    # The key is looked at before anything is made, and this key is no file.
    monkeypatch.setattr("bundling.signing.require_key", lambda key: None)
    arguments = reached(skipfold, monkeypatch, "bundling.writing.write_bundle", *command)
    assert (arguments["out"], arguments["key"]) == (tmp_path / "out", tmp_path / "key")


def test_seed_reaches_initialised_weights(skipfold: Skipfold, monkeypatch: pytest.MonkeyPatch) -> None:
    assert reached(skipfold, monkeypatch, INITIALISE, "export", *DEPTH)["seed"] == 0
    assert reached(skipfold, monkeypatch, INITIALISE, "export", *DEPTH, "--seed", 7)["seed"] == 7


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "grey.png"
    Image.new("RGB", (32, 32), (128, 128, 128)).save(path)
    return path


def test_options_reach_the_runtime_that_classifies_pictures(
    skipfold: Skipfold, preact_run: RunDirectory, monkeypatch: pytest.MonkeyPatch, picture: Path
) -> None:
    def opened(*given: object) -> Arguments:
        command = ("predict", picture, "--run-dir", preact_run.path, *given)
        arguments = reached(skipfold, monkeypatch, OPEN, *command)
        assert arguments.pop("run").path == preact_run.path
        return arguments

    fp32 = Subject("ort", "fp32", MODEL, "cpu")
    torch = Subject("torch", "fp32", CHECKPOINT, "cpu")
    assert opened() == {
        "subject": fp32,
        "threads": None,
        "allow_saturation": False,
        "cuda_graphs": None,
    }
    assert opened("--no-cuda-graphs")["cuda_graphs"] is False
    assert opened("--cuda-graphs")["cuda_graphs"] is True
    assert opened("--threads", 3)["threads"] == 3
    assert opened("--allow-saturation")["allow_saturation"] is True
    assert opened("--precision", "int8")["subject"] == INT8
    assert opened("--engine", "torch")["subject"] == torch
    assert opened("--device", "cuda")["subject"] == ON_CUDA


def test_options_reach_the_analysis(skipfold: Skipfold, monkeypatch: pytest.MonkeyPatch) -> None:
    def analysis(*given: object) -> Arguments:
        return reached(skipfold, monkeypatch, ANALYZE, "analyze", *DEPTH, *given)

    without = analysis()
    fields = {"seed": 0, "force": False}
    assert {name: without[name] for name in fields} == fields
    assert analysis("--seed", 7)["seed"] == 7
    assert analysis("--images", 4)["images"] == 4 != without["images"]
    assert analysis("--force")["force"] is True
    assert analysis("--run-dir", "elsewhere")["run"].path == Path("elsewhere")
