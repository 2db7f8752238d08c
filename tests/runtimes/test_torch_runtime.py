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
