"""A dry run of the GPU's page on the CPU, and how its time is kept."""

from pathlib import Path
from typing import Any

import pytest

from artifacts.run_directory import RunDirectory
from benchmarks import gpu_table
from benchmarks.gpu_table import (
    BATCHES,
    COMPILED_BATCHES,
    Budget,
    Page,
    Step,
    loading_of_rtx,
    main,
    steps_on,
)
from runtimes import timing
from runtimes.torch_compile_runtime import TorchCompileRuntime
from vocabulary import Device


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    now = {"seconds": 1000.0}
    monkeypatch.setattr(gpu_table.time, "monotonic", lambda: now["seconds"])
    return now


def test_a_dry_run_on_the_cpu_makes_the_whole_page(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(timing, "ROUNDS", 2)
    monkeypatch.setattr(TorchCompileRuntime, "backend", "eager")
    main(["--device", "cpu", "--depth", "8", "--batch", "1", "--seconds", "0.01", "--minutes", "60"])
    page = capsys.readouterr().out
    for heading in ("Does an engine of TensorRT for RTX load here?", "Latency", "Not run", "Left out"):
        assert f"## {heading}" in page
    assert "python benchmarks/gpu_table.py --device cpu --depth 8" in page
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in page.splitlines() if "ResNet-8 |" in line
    ]
    measured = {(row[0], row[1], row[3]) for row in rows}
    for variant in ("original", "preact"):
        network = f"{variant} ResNet-8"
        assert (network, "ort", "all engines") in measured
        assert (network, "ort", "without CUDA graphs") in measured
        assert (network, "torch-compile", "torch.compile") in measured
    assert {row[4] for row in rows} == {"1"}
    assert page.split("## Left out")[1].splitlines()[2] == "Nothing."


def test_steps_that_would_not_end_in_time_are_named(
    preact_run: RunDirectory, monkeypatch: pytest.MonkeyPatch, clock: dict[str, float]
) -> None:
    """Each step takes 40 s at depth 8, and there are 100 s: two of the three steps are taken."""
    monkeypatch.setattr(gpu_table, "loading_of_rtx", lambda run: "not tried")
    taken: list[tuple[str, Any]] = []

    def take(page: Any, session: Any, step: Step, device: Device, sizes: list[int], *_: Any) -> None:
        taken.append((step.name, sizes))
        clock["seconds"] += 40

    monkeypatch.setattr(gpu_table, "_take", take)
    networks: Any = [gpu_table.RunOptions(run_dir=preact_run.path)] * 2
    page = Page()
    gpu_table.measure(page, networks, Device.cuda, None, 0.1, Budget(100))
    assert taken == [("all engines", list(BATCHES))] * 2 + [("without CUDA graphs", list(BATCHES))]
    assert page.left_out == [
        "preact ResNet-8: without CUDA graphs",
        *["preact ResNet-8: torch.compile"] * 2,
    ]


def test_a_deeper_network_is_expected_to_take_longer(clock: dict[str, float]) -> None:
    budget, step = Budget(100), steps_on(Device.cuda)[0]
    assert budget.allows(step, 1000)
    budget.took(step, 20, 10)
    assert budget.allows(step, 199) and not budget.allows(step, 201)
    clock["seconds"] += 95
    assert not budget.allows(step, 20)


def test_batch_sizes_of_a_step(monkeypatch: pytest.MonkeyPatch, preact_run: RunDirectory) -> None:
    monkeypatch.setattr(gpu_table, "loading_of_rtx", lambda run: "not tried")
    sizes: dict[str, list[int]] = {}
    monkeypatch.setattr(gpu_table, "_take", lambda *given: sizes.__setitem__(given[2].name, given[4]))
    networks: Any = [gpu_table.RunOptions(run_dir=preact_run.path)]
    for batches, all_engines, compiled in (
        (None, list(BATCHES), list(COMPILED_BATCHES)),
        ([1, 256], [1, 256], [1]),
        ([2, 3], [2, 3], [2, 3]),
    ):
        gpu_table.measure(Page(), networks, Device.cuda, batches, 0.1, Budget(1000))
        assert (sizes["all engines"], sizes["torch.compile"]) == (all_engines, compiled)


def test_network_that_nothing_runs_is_a_line(
    preact_run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a GPU no engine runs on CUDA, and the page says why."""
    monkeypatch.setattr(gpu_table, "loading_of_rtx", lambda run: "not tried")
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    step = Step("torch.compile", ("torch-compile",))
    monkeypatch.setattr(gpu_table, "steps_on", lambda device: [step])
    networks: Any = [gpu_table.RunOptions(run_dir=preact_run.path)]
    page = Page()
    gpu_table.measure(page, networks, Device.cuda, [1], 0.01, Budget(1000))
    assert page.rows == []
    assert page.refusals == [
        "preact ResNet-8, torch.compile: PyTorch sees no CUDA device here (use --device cpu)"
    ]


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
def test_what_was_measured_until_an_error_is_printed(
    preact_run: RunDirectory,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: type[BaseException],
) -> None:
    monkeypatch.setattr(gpu_table, "loading_of_rtx", lambda run: "yes, the engine loads")

    def take(page: Page, session: Any, step: Step, *_: Any) -> None:
        if step.name != "all engines":
            raise error
        page.refusals.append("what the first step found")

    monkeypatch.setattr(gpu_table, "_take", take)
    with pytest.raises(error):
        gpu_table.main(["--run", str(preact_run.path), "--device", "cpu"])
    page = capsys.readouterr().out
    assert "yes, the engine loads" in page and "- what the first step found" in page


class FakeTensorRT:
    """As much of the TensorRT API as loading a plan takes."""

    class ILogger:
        """The base class of loggers."""

    def __init__(self, diagnostics: int, loads: bool) -> None:
        self.diagnostics, self.loads = diagnostics, loads

    def Runtime(self, logger: Any) -> "FakeTensorRT":  # noqa: N802
        if not self.loads:
            logger.errors.append("no kernels for this GPU")
        return self

    def deserialize_cuda_engine(self, plan: bytes) -> object | None:
        assert plan == b"plan" * 100
        return object() if self.loads else None

    def get_engine_validity(self, header: bytes) -> tuple[str, int]:
        assert len(header) == 64
        return ("VALID" if self.loads else "INVALID"), self.diagnostics


@pytest.mark.parametrize(
    ("diagnostics", "loads", "words"),
    [
        (0, True, ["yes, the engine loads", "answers VALID, diagnostics 0"]),
        (
            4,
            False,
            ["no, the engine does not load", "INVALID, diagnostics 4", "driver is too old", "- no kernels"],
        ),
    ],
)
def test_page_says_what_tensorrt_says_of_an_engine(
    preact_run: RunDirectory,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    diagnostics: int,
    loads: bool,
    words: list[str],
) -> None:
    (preact_run.path / "plan.engine").write_bytes(b"plan" * 100)
    builder = type(gpu_table.BUILDERS["rtx"])
    monkeypatch.setattr(builder, "is_installed", True)
    monkeypatch.setattr(builder, "load", lambda self: FakeTensorRT(diagnostics, loads))
    monkeypatch.setattr(gpu_table, "engine_from_onnx", lambda *_, **__: ("plan.engine", True))
    text = loading_of_rtx(preact_run)
    assert all(word in text for word in words), text
