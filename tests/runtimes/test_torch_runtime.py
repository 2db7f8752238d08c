from pathlib import Path

import numpy as np
import pytest
import torch

from artifacts.names import CHECKPOINT, CHECKPOINT_CARD, MODEL
from artifacts.run_directory import RunDirectory
from data.dataset import Dataset
from errors import UserError
from graphs.onnx_file import card_from_file
from models.checkpoint import model_in
from runtimes.subjects import open_subject, subject_in
from runtimes.torch_compile_runtime import TorchCompileRuntime
from runtimes.torch_runtime import TorchRuntime


def test_logits_are_those_of_the_unfolded_network(run: RunDirectory, digits: Dataset) -> None:
    images = digits.normalised(digits.test.images[:5])
    model, _ = model_in(run)
    with torch.inference_mode():
        expected = model(torch.from_numpy(images)).numpy()
    with TorchRuntime(run.verified(CHECKPOINT), "fp32") as runtime:
        logits = runtime.infer(images)
    # The runtime uses channels_last, which adds in another order.
    assert np.abs(logits - expected).max() <= 1e-5 * np.abs(expected).max()


def test_card_is_that_of_the_exported_graph(run: RunDirectory) -> None:
    with TorchRuntime(run.verified(CHECKPOINT), "fp32") as runtime:
        assert runtime.card == card_from_file(run.verified(MODEL))


def test_cuda_that_is_not_there_is_an_error(
    trained_runs: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="no CUDA device") as refusal:
        TorchRuntime(trained_runs["preact"] / CHECKPOINT, "fp32", "cuda").__enter__()
    assert refusal.value.fix == "use --device cpu"


def test_tf32_is_off_while_it_is_open(trained_runs: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    with TorchRuntime(trained_runs["preact"] / CHECKPOINT, "fp32"):
        assert not torch.backends.cudnn.allow_tf32
        assert not torch.backends.cuda.matmul.allow_tf32


def test_threads_asked_for_are_used(trained_runs: dict[str, Path]) -> None:
    before = torch.get_num_threads()
    try:
        with TorchRuntime(trained_runs["preact"] / CHECKPOINT, "fp32", threads=1):
            assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def test_weights_without_their_description_are_refused(preact_run: RunDirectory) -> None:
    (preact_run.path / CHECKPOINT_CARD).unlink()
    with pytest.raises(UserError, match=CHECKPOINT_CARD):
        TorchRuntime(preact_run.path / CHECKPOINT, "fp32").__enter__()


def test_description_that_was_changed_is_refused(preact_run: RunDirectory) -> None:
    path = preact_run.path / CHECKPOINT_CARD
    path.write_text(path.read_text().replace('"trained": true', '"trained": false'))
    with pytest.raises(UserError, match=f"{CHECKPOINT_CARD} is not the file"):
        open_subject(preact_run, subject_in(preact_run, "torch", "fp32"))


BFLOAT16 = "runtimes.torch_runtime.computes_in_bfloat16"


def test_bfloat16_computes_in_bfloat16(
    preact_run: RunDirectory, digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BFLOAT16, lambda device: True)
    images = digits.normalised(digits.test.images[:5])
    model, _ = model_in(preact_run)
    with torch.inference_mode():
        expected = model.to(torch.bfloat16)(torch.from_numpy(images).to(torch.bfloat16)).float().numpy()
    with TorchRuntime(preact_run.verified(CHECKPOINT), "bf16") as runtime:
        logits = runtime.infer(images)
        assert runtime.describe()["arithmetic"] == "bfloat16, eager, channels_last"
        assert runtime.card.precision == "bf16"
    # channels_last adds in another order, and each sum is rounded to 8 bits.
    assert np.abs(logits - expected).max() <= 0.05 * np.abs(expected).max()
    # What was rounded to bfloat16 has no bits below the upper 16.
    assert not (logits.view(np.uint32) & 0xFFFF).any()


@pytest.mark.parametrize("kind", [TorchRuntime, TorchCompileRuntime])
def test_bfloat16_in_emulation_is_refused(
    trained_runs: dict[str, Path], monkeypatch: pytest.MonkeyPatch, kind: type[TorchRuntime]
) -> None:
    monkeypatch.setattr(BFLOAT16, lambda device: False)
    with pytest.raises(UserError, match="cpu computes bfloat16 in emulation only"):
        kind(trained_runs["preact"] / CHECKPOINT, "bf16").__enter__()


def test_float16_is_for_cuda_alone(trained_runs: dict[str, Path]) -> None:
    with pytest.raises(UserError, match="torch cannot run fp16 on cpu"):
        TorchRuntime(trained_runs["preact"] / CHECKPOINT, "fp16")


class FakeEvent:
    """A CUDA event on a clock that moves on by 1 ms for each image of a call of the network."""

    now = 0.0

    def __init__(self, enable_timing: bool) -> None:
        assert enable_timing
        self.at: float | None = None
        self.reached = False

    def record(self) -> None:
        self.at = FakeEvent.now

    def synchronize(self) -> None:
        self.reached = True

    def elapsed_time(self, end: "FakeEvent") -> float:
        assert end.reached and self.at is not None and end.at is not None
        return end.at - self.at


def test_device_time_is_between_events_around_the_network_and_leaves_out_the_copies(
    preact_run: RunDirectory, digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = digits.normalised(digits.test.images[:3])
    monkeypatch.setattr(torch.cuda, "Event", FakeEvent)
    with TorchRuntime(preact_run.verified(CHECKPOINT), "fp32") as runtime:
        assert runtime.device_ms(images) is None

        # The first launch takes 50 ms more, as one that compiles, or that the GPU has to wait for.
        slower = iter((50, 0))

        def model(batch: torch.Tensor) -> torch.Tensor:
            FakeEvent.now += len(batch) + next(slower)
            return batch

        def copied(batch: np.ndarray) -> torch.Tensor:
            FakeEvent.now += 100
            return torch.from_numpy(batch)

        monkeypatch.setattr(runtime, "device", "cuda")
        monkeypatch.setattr(runtime, "_model", model)
        monkeypatch.setattr(runtime, "_on_device", copied)
        assert runtime.device_ms(images) == 3
        with pytest.raises(ValueError, match="torch takes float32"):
            runtime.device_ms(images[0])
        runtime._model = None


def test_gpu_without_memory_for_a_batch_is_no_bug(
    preact_run: RunDirectory, digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(images: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with TorchRuntime(preact_run.verified(CHECKPOINT), "fp32") as runtime:
        monkeypatch.setattr(runtime, "_model", full)
        with pytest.raises(UserError, match="too little free memory for torch at batch 3"):
            runtime.infer(digits.normalised(digits.test.images[:3]))
        monkeypatch.undo()
