import re

import pytest
from recorded_plans import FP8, FP16, INT8, PLANS, TURING, layers_of, message_of

from errors import CheckFailed
from runtimes.tensorrt.layers_from_message import layers_from_message
from runtimes.tensorrt.plan_layers import Tensor

STEM = (
    "Name: stem.conv_U1_myl0_2, LayerType: correlation, "
    "Inputs: [ { Name: stem.in, Dimensions: [-1,4,32,32], Strides: [4096,1,128,4], "
    "StrideOrder: [3,0,2,1], Datatype: Half, Format: (NHWC) Channel major format }], "
    "Constants: [ { Name: stem.weight, Dimensions: [16,4,3,3], Strides: [36,1,12,4], StrideOrder: [3,0,2,1], "
    "Datatype: Half, Format: (NHWC) Channel major format }, { Name: one, Dimensions: [1], Strides: [1], "
    "StrideOrder: [0], Datatype: Float, Format: (Linear) Row major linear format }], Outputs: [ { Name: "
    "stem.out, Dimensions: [-1,16,32,32], Strides: [16384,1,512,16], StrideOrder: [3,0,2,1], Datatype: Half, "
    "Format: (NHWC) Channel major format }], TacticName: __myelin_CASK_STUB, StreamId: 0, "
    "Metadata: [ONNX Layer: stem.conv][ONNX Layer: stem.relu]"
)
SIGNAL = (
    "Name: __mye5003_myl0_12, LayerType: signal, Inputs: [], Constants: [], Outputs: [], TacticName: , "
    "StreamId: 0, EventId: 1, Metadata: "
)


def test_a_line_is_read_in_all_its_parts() -> None:
    (layer,) = layers_from_message(f"Layers:\n{STEM}\n")
    assert (layer.name, layer.kind, layer.profile) == ("stem.conv_U1_myl0_2", "correlation", 0)
    assert layer.inputs == (Tensor("stem.in", (-1, 4, 32, 32), "float16", "NHWC"),)
    assert layer.constants == (
        Tensor("stem.weight", (16, 4, 3, 3), "float16", "NHWC"),
        Tensor("one", (1,), "float32", "Linear"),
    )
    assert layer.outputs == (Tensor("stem.out", (-1, 16, 32, 32), "float16", "NHWC"),)
    assert (layer.tactic, layer.nodes) == ("__myelin_CASK_STUB", ("stem.conv", "stem.relu"))
    assert layer.is_kernel


def test_separators_between_nodes_are_no_ends_of_lines() -> None:
    line = STEM.replace("][ONNX", "]\x1e[ONNX")
    (layer,) = layers_from_message(f"Layers:\n{line}")
    assert layer.nodes == ("stem.conv", "stem.relu")


def test_a_line_without_tensors_is_no_kernel() -> None:
    (layer,) = layers_from_message(f"Layers:\n{SIGNAL}")
    assert (layer.kind, layer.inputs, layer.outputs, layer.nodes) == ("signal", (), (), ())
    assert not layer.is_kernel


@pytest.mark.parametrize("plan", PLANS)
def test_every_line_of_a_recorded_plan_is_read(plan: str) -> None:
    message = message_of(plan)
    assert len(layers_of(plan)) == len(re.findall("^Name: ", message, re.MULTILINE))


@pytest.mark.parametrize(
    ("plan", "kernels", "types"),
    [
        (FP16, 13, {"float16", "float32"}),
        (INT8, 18, {"int8", "float16", "float32"}),
        (TURING, 31, {"int8", "float16", "float32"}),
        (FP8, 18, {"float8", "float16", "float32"}),
    ],
)
def test_kernels_and_types_of_recorded_plans(plan: str, kernels: int, types: set[str]) -> None:
    layers = [layer for layer in layers_of(plan) if layer.profile == max(x.profile for x in layers_of(plan))]
    assert sum(layer.is_kernel for layer in layers) == kernels
    assert {t.type for layer in layers for t in (*layer.inputs, *layer.constants, *layer.outputs)} == types


def test_layers_of_the_second_profile_are_told_from_those_of_the_first() -> None:
    layers = layers_of(FP16)
    profiles = [layer.profile for layer in layers]
    assert sorted(profiles) == profiles and set(profiles) == {0, 1}
    # Half of the layers name no tensor with "[profile 1]"; the first profile is for one image alone.
    assert {layer.inputs[0].shape[0] for layer in layers if layer.inputs and layer.profile == 0} == {1}
    assert {layer.inputs[0].shape[0] for layer in layers if layer.inputs and layer.profile == 1} == {-1}


@pytest.mark.parametrize(
    ("line", "quoted"),
    [
        (STEM.replace("StreamId: 0", "StreamId: 0, Priority: 3"), "Priority: 3"),
        (STEM.replace("LayerType: correlation, ", ""), "stem.conv_U1_myl0_2"),
        (STEM.replace("Datatype: Half", "Datatype: Quarter"), "the data type Quarter"),
        (STEM.replace("Dimensions: [16,4,3,3]", "Dimensions: [16,4,?,3]"), "16,4,?,3"),
        (STEM.replace(", Strides: [36,1,12,4]", ""), "stem.weight"),
        (STEM.replace("[ONNX Layer: stem.relu]", "[Torch Layer: stem.relu]"), "Torch Layer"),
        ("Something else", "Something else"),
        (f"{SIGNAL}\n\nKernel Sources:\n void f()", "Kernel Sources:"),
        (f"{SIGNAL}\n\nI/O Tensors:\nimages", "a line below the layers .* 'images'"),
    ],
)
def test_a_line_of_another_form_is_an_error_that_quotes_it(line: str, quoted: str) -> None:
    with pytest.raises(CheckFailed, match=f"{quoted.replace('?', '[?]')}") as failure:
        layers_from_message(f"Layers:\n{STEM}\n{line}")
    assert failure.value.exit_status == 1
    assert "what is not understood proves nothing" in failure.value.problem


@pytest.mark.parametrize("message", ["", "Layers\n", "Layer Information:\n"])
def test_another_message_is_an_error(message: str) -> None:
    with pytest.raises(CheckFailed, match="the heading"):
        layers_from_message(message)


def test_the_sections_below_the_layers_are_left_unread() -> None:
    below = "I/O Tensors:\n Name: images, IOMode: Input\n\nEngine Metadata:\n Multi-Device: Disabled"
    message = f"Layers:\n{STEM}\n\n{below}"
    assert layers_from_message(message) == layers_from_message(f"Layers:\n{STEM}")
