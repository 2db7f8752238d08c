"""Faults that the tests seed in an exported or quantized graph, and that verification must catch.

`with_few_test_images` returns the images that are enough to catch them.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import onnx
import pytest
from fault_injection import change_initializer
from safetensors.torch import load_file

import verification.compare
from artifacts.names import CHECKPOINT
from artifacts.run_directory import RunDirectory
from data.dataset import Dataset

Fault = Callable[[onnx.ModelProto, RunDirectory], None]


def swap_two_classes(graph: onnx.ModelProto, run: RunDirectory) -> None:
    for name in ("classifier.weight", "classifier.bias"):
        change_initializer(graph, name, lambda rows: rows[[1, 0, *range(2, len(rows))]])


def scale_one_weight(graph: onnx.ModelProto, run: RunDirectory) -> None:
    change_initializer(graph, "stage2.0.residual.conv1.weight", lambda weight: 1.05 * weight)


def shift_one_logit(graph: onnx.ModelProto, run: RunDirectory) -> None:
    change_initializer(graph, "classifier.bias", lambda bias: bias + 0.1 * (np.arange(len(bias)) == 4))


def lose_one_channel(graph: onnx.ModelProto, run: RunDirectory) -> None:
    def without_third(weight: np.ndarray) -> np.ndarray:
        weight[3] = 0
        return weight

    change_initializer(graph, "stage3.0.residual.conv2.weight", without_third)


def put_nan(graph: onnx.ModelProto, run: RunDirectory) -> None:
    def with_nan(weight: np.ndarray) -> np.ndarray:
        weight[0, 0, 0, 0] = np.nan
        return weight

    change_initializer(graph, "stage2.0.residual.conv2.weight", with_nan)


def fold_with_epsilon_of_other_frameworks(graph: onnx.ModelProto, run: RunDirectory) -> None:
    """Fold with an epsilon of 1e-3 instead of 1e-5.

    With r the ratio of the two deviations, W' = W r and c' = (c - b) r + b.
    """
    weights = load_file(run.verified(CHECKPOINT))
    # A pre-activation block begins with bn1, so that its first convolution is followed by bn2.
    number = 1 if "stage1.0.residual.bn1.bias" in weights else 2
    for stage in ("stage1", "stage2", "stage3"):
        bn, conv = f"{stage}.0.residual.bn{number}", f"{stage}.0.residual.conv1"
        variance, beta = (weights[f"{bn}.{name}"].numpy() for name in ("running_var", "bias"))
        ratio = np.sqrt((variance + 1e-5) / (variance + 1e-3))
        change_initializer(graph, f"{conv}.weight", lambda w, r=ratio: w * r[:, None, None, None])
        change_initializer(graph, f"{conv}.bias", lambda c, r=ratio, b=beta: (c - b) * r + b)


def shrink_range_of_input(graph: onnx.ModelProto, run: RunDirectory) -> None:
    change_initializer(graph, "images.scale", lambda scale: scale / 4)


def shrink_range_of_branch(graph: onnx.ModelProto, run: RunDirectory) -> None:
    change_initializer(graph, "stage2.0.residual.conv2.scale", lambda scale: scale / 4)


def shrink_range_of_activation(graph: onnx.ModelProto, run: RunDirectory) -> None:
    change_initializer(graph, "stage2.0.residual.relu2.scale", lambda scale: scale / 8)


def quantize_by_another_scale(graph: onnx.ModelProto, run: RunDirectory) -> None:
    """Halve a scale in an epilogue, where the scale of quantizing stands apart from that of dequantizing."""
    change_initializer(graph, "stage2.0.preact.relu1.quantize.scale", lambda scale: scale / 2)


def with_few_test_images(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    """Return the data set with a sixth of the test images, which are verified in one batch."""
    chosen = np.arange(0, len(dataset.test), 6)
    monkeypatch.setattr(verification.compare, "BATCH", len(chosen))
    return replace(dataset, test=dataset.test.subset(chosen))
