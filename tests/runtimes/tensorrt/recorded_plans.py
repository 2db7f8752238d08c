"""Lists of layers that TensorRT for RTX 1.7.1 logged for pre-activation ResNet-8, and the graph's
convolutions.

The plans were built from skipfold's own graphs. That of FP16 has two optimization profiles, 1:1:1 and
1:32:128; the others have the second one alone.
"""

from pathlib import Path

from runtimes.tensorrt.layers_from_message import layers_from_message
from runtimes.tensorrt.plan_layers import Layer
from runtimes.tensorrt.precision_proof import Convolution

FOLDER = Path(__file__).parent / "recorded"
FP16, INT8 = "preact-8.fp16.sm89", "preact-8.int8.sm89"
TURING, FP8 = "preact-8.int8.sm75", "preact-8.fp8.sm89"
PLANS = (FP16, INT8, TURING, FP8)
CONVOLUTIONS = [
    Convolution("stem.conv", (16, 3, 3, 3)),
    Convolution("stage1.0.residual.conv1", (16, 16, 3, 3)),
    Convolution("stage1.0.residual.conv2", (16, 16, 3, 3)),
    Convolution("stage2.0.projection", (32, 16, 1, 1)),
    Convolution("stage2.0.residual.conv1", (32, 16, 3, 3)),
    Convolution("stage2.0.residual.conv2", (32, 32, 3, 3)),
    Convolution("stage3.0.projection", (64, 32, 1, 1)),
    Convolution("stage3.0.residual.conv1", (64, 32, 3, 3)),
    Convolution("stage3.0.residual.conv2", (64, 64, 3, 3)),
]


def message_of(plan: str) -> str:
    return (FOLDER / f"{plan}.txt").read_text()


def layers_of(plan: str) -> tuple[Layer, ...]:
    return layers_from_message(message_of(plan))
