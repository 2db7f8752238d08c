"""Which convolutions are quantized for TensorRT for RTX, by the names of the network."""

import pytest
from quantized_samples import float_graph
from sample_networks import sample_graph

from calibration.quantizing.free_codes import convolutions_with_free_codes
from calibration.quantizing.placement import float_nodes, quantized_uses
from calibration.quantizing.scheme import RTX, RTX_FP8
from models.config import resnet_config

# Two blocks a stage; depth 14 has basic blocks, depth 20 bottlenecks.
CODED = {
    # The first convolution of a branch reads what BN and ReLU make of the stream, in a kernel of their own.
    ("preact", 14): [
        *("stage1.0.residual.conv1", "stage1.1.residual.conv1"),
        *("stage2.0.projection", "stage2.0.residual.conv1", "stage2.1.residual.conv1"),
        *("stage3.0.projection", "stage3.0.residual.conv1", "stage3.1.residual.conv1"),
    ],
    # It writes float16, the second writes codes, and the third reads codes. The third of the last block of
    # a stage writes a wide sum that convolutions alone read, and so stays float16 to write codes.
    ("preact", 20): [
        *("stage1.0.projection", "stage1.0.residual.conv1", "stage1.0.residual.conv3"),
        "stage1.1.residual.conv1",
        *("stage2.0.projection", "stage2.0.residual.conv1", "stage2.0.residual.conv3"),
        "stage2.1.residual.conv1",
        *("stage3.0.projection", "stage3.0.residual.conv1", "stage3.0.residual.conv3"),
        *("stage3.1.residual.conv1", "stage3.1.residual.conv3"),
    ],
    # The stream is float16, and the first convolution of a branch writes codes for the second.
    ("original", 14): [f"stage{n}.{block}.residual.conv2" for n in (1, 2, 3) for block in (0, 1)],
    # As above where convolutions alone read the stream: behind the stem and between the stages.
    ("original", 20): [
        *("stage1.0.projection.conv", "stage1.0.residual.conv1", "stage1.0.residual.conv3"),
        "stage1.1.residual.conv2",
        *("stage2.0.projection.conv", "stage2.0.residual.conv1", "stage2.0.residual.conv3"),
        "stage2.1.residual.conv2",
        *("stage3.0.projection.conv", "stage3.0.residual.conv1", "stage3.0.residual.conv3"),
        "stage3.1.residual.conv2",
    ],
}
# FP8 codes come for nothing from kernels of BN and ReLU alone.
CODED_IN_FP8 = {
    ("preact", 14): [
        *("stage1.0.residual.conv1", "stage1.1.residual.conv1"),
        *("stage2.1.residual.conv1", "stage3.1.residual.conv1"),
    ],
    ("preact", 20): [f"stage{n}.1.residual.conv1" for n in (1, 2, 3)],
}
BLOCKS = {14: "basic", 20: "bottleneck"}


def named(network):
    return "-".join(map(str, network))


def graph_named(network, absorbed=False):
    variant, depth = network
    return float_graph(resnet_config(variant, depth, BLOCKS[depth]), absorbed)


def coded(model, scheme, blocks=()):
    return [c.name for c in convolutions_with_free_codes(model, scheme, float_nodes(model, blocks))]


@pytest.mark.parametrize("absorbed", [False, True], ids=["exported", "absorbed"])
@pytest.mark.parametrize("network", CODED, ids=named)
def test_int8_is_where_codes_cost_no_kernel(network, absorbed):
    assert coded(graph_named(network, absorbed), RTX) == CODED[network]


@pytest.mark.parametrize("absorbed", [False, True], ids=["exported", "absorbed"])
@pytest.mark.parametrize("network", CODED_IN_FP8, ids=named)
def test_fp8_is_where_a_kernel_of_relu_writes_the_codes(network, absorbed):
    assert coded(graph_named(network, absorbed), RTX_FP8) == CODED_IN_FP8[network]


@pytest.mark.parametrize(
    ("network", "last"),
    [(("original", 14), "conv2"), (("original", 20), "conv3")],
    ids=["basic", "bottleneck"],
)
def test_fp8_is_everywhere_but_at_the_ends_of_blocks_where_it_costs_kernels_anyway(network, last):
    model = graph_named(network)
    convolutions = [node.name for node in model.graph if node.op_type == "Conv"]
    assert coded(model, RTX_FP8) == [
        name for name in convolutions if name != "stem.conv" and not name.endswith(last)
    ]


@pytest.mark.parametrize("scheme", [RTX, RTX_FP8], ids=["int8", "fp8"])
@pytest.mark.parametrize("network", CODED, ids=named)
def test_no_two_quantized_convolutions_follow_one_another_within_a_branch(network, scheme):
    """The kernel of the first would write float16, and codes would cost a kernel."""
    model = graph_named(network)
    quantized = set(coded(model, scheme))
    if scheme is RTX or network in CODED_IN_FP8:
        for conv in (node for node in model.graph if node.name in quantized):
            relus = [node for node, _ in conv.outputs[0].uses() if node.op_type == "Relu"]
            assert not {node.name for relu in relus for node, _ in relu.outputs[0].uses()} & quantized


@pytest.mark.parametrize("scheme", [RTX, RTX_FP8], ids=["int8", "fp8"])
@pytest.mark.parametrize("network", CODED, ids=named)
def test_inputs_of_these_convolutions_are_the_edges_that_are_quantized(network, scheme):
    model = graph_named(network)
    uses = quantized_uses(model, scheme)
    assert [use.consumer.name for use in uses] == coded(model, scheme)
    assert all(use.index == 0 and use.consumer.inputs[0] is use.value for use in uses)


@pytest.mark.parametrize("network", CODED, ids=named)
def test_nothing_of_a_float_block_is_quantized(network):
    model = graph_named(network)
    whole, rest = coded(model, RTX), coded(model, RTX, ["stage2.0.add"])
    assert not [name for name in rest if name.startswith("stage2.0.")]
    # Its last convolution writes codes where it can; the blocks before are as they were.
    assert [n for n in rest if n.startswith("stage1")] == [n for n in whole if n.startswith("stage1")]


def test_stem_whose_output_goes_on_is_not_quantized_either():
    """Twin of the stem of a bottleneck network, which writes codes: here the stream begins."""
    assert "stem.conv" not in coded(sample_graph(resnet_config("preact", 8)), RTX)
