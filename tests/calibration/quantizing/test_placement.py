from dataclasses import replace

import pytest
from quantized_samples import float_graph
from sample_networks import TWO_BLOCKS, node_named, sample_graph

from calibration.quantizing.placement import float_nodes, observed_values, quantized_uses
from calibration.quantizing.scheme import FP8, Scheme
from calibration.rewriting.bn_as_convolution import BatchnormAsConvolution
from errors import UserError
from models.config import resnet_config

# Each edge is (tensor, consumer), both by the names of the network.
PREACT_CONV_INPUTS = {
    ("images", "stem.conv"),
    ("stage1.0.preact.relu1", "stage1.0.residual.conv1"),
    ("stage1.0.residual.relu2", "stage1.0.residual.conv2"),
    ("stage2.0.preact.relu1", "stage2.0.residual.conv1"),
    ("stage2.0.preact.relu1", "stage2.0.projection"),
    ("stage2.0.residual.relu2", "stage2.0.residual.conv2"),
    ("stage3.0.preact.relu1", "stage3.0.residual.conv1"),
    ("stage3.0.preact.relu1", "stage3.0.projection"),
    ("stage3.0.residual.relu2", "stage3.0.residual.conv2"),
}
PREACT_SKIP = {
    ("stem.conv", "stage1.0.add"),
    ("stage2.0.projection", "stage2.0.add"),
    ("stage3.0.projection", "stage3.0.add"),
}
PREACT_BN = {
    ("stem.conv", "stage1.0.preact.bn1"),
    ("stage1.0.add", "stage2.0.preact.bn1"),
    ("stage2.0.add", "stage3.0.preact.bn1"),
    ("stage3.0.add", "head.bn"),
}
ORIGINAL_CONV_INPUTS = {
    ("images", "stem.conv"),
    ("stem.relu", "stage1.0.residual.conv1"),
    ("stage1.0.residual.relu1", "stage1.0.residual.conv2"),
    ("stage1.0.relu", "stage2.0.residual.conv1"),
    ("stage1.0.relu", "stage2.0.projection.conv"),
    ("stage2.0.residual.relu1", "stage2.0.residual.conv2"),
    ("stage2.0.relu", "stage3.0.residual.conv1"),
    ("stage2.0.relu", "stage3.0.projection.conv"),
    ("stage3.0.residual.relu1", "stage3.0.residual.conv2"),
}
ORIGINAL_SKIP = {
    ("stem.relu", "stage1.0.add"),
    ("stage2.0.projection.conv", "stage2.0.add"),
    ("stage3.0.projection.conv", "stage3.0.add"),
}
# On CPUs the other operand of each Add is quantized, too, and so is what is pooled.
PREACT_CPU = {(f"stage{n}.0.residual.conv2", f"stage{n}.0.add") for n in (1, 2, 3)} | {("head.relu", "pool")}
ORIGINAL_CPU = {(f"stage{n}.0.residual.conv2", f"stage{n}.0.add") for n in (1, 2, 3)} | {
    ("stage3.0.relu", "pool")
}


def edges_of(model, scheme):
    """Return tensor and consumer of each quantized edge, by name."""
    uses = quantized_uses(model, scheme, float_nodes(model, scheme.float_blocks))
    for use in uses:
        assert use.consumer.inputs[use.index] is use.value
    edges = [(use.value.name, use.consumer.name) for use in uses]
    assert len(edges) == len(set(edges))
    return set(edges)


def uses_of(variant, scheme, depth=8, rewritten=False):
    model = sample_graph(resnet_config(variant, depth))
    if rewritten:
        BatchnormAsConvolution()(model)
    return edges_of(model, scheme)


@pytest.mark.parametrize("rewritten", [False, True])
@pytest.mark.parametrize(
    ("variant", "expected"),
    [
        ("preact", PREACT_CONV_INPUTS | PREACT_SKIP | PREACT_BN | PREACT_CPU),
        ("original", ORIGINAL_CONV_INPUTS | ORIGINAL_SKIP | ORIGINAL_CPU),
    ],
    ids=["preact", "original"],
)
def test_cpu_quantizes_everything_a_relu_does_not_fold(variant, expected, rewritten):
    assert uses_of(variant, Scheme("cpu"), rewritten=rewritten) == expected


@pytest.mark.parametrize(
    ("variant", "expected"),
    [
        ("preact", PREACT_CONV_INPUTS | PREACT_SKIP | PREACT_BN),
        ("original", ORIGINAL_CONV_INPUTS | ORIGINAL_SKIP),
    ],
)
def test_gpu_quantizes_convolution_inputs_and_the_skip_path(variant, expected):
    assert uses_of(variant, Scheme("gpu")) == expected


@pytest.mark.parametrize(
    ("variant", "expected"), [("preact", PREACT_CONV_INPUTS), ("original", ORIGINAL_CONV_INPUTS)]
)
@pytest.mark.parametrize("stream", ["fp16", "fp32"])
def test_gpu_with_a_float_stream_leaves_the_skip_path_alone(variant, expected, stream):
    assert uses_of(variant, Scheme("gpu", stream=stream)) == expected


@pytest.mark.parametrize(
    ("variant", "expected"), [("preact", PREACT_CONV_INPUTS), ("original", ORIGINAL_CONV_INPUTS)]
)
def test_fp8_is_for_the_inputs_of_all_convolutions_but_the_stem(variant, expected):
    assert uses_of(variant, FP8) == expected - {("images", "stem.conv")}


@pytest.mark.parametrize("depth", [8, 11, 20])
@pytest.mark.parametrize("variant", ["preact", "original"])
@pytest.mark.parametrize("stream", ["int8", "fp16", "fp32"])
def test_gpu_never_quantizes_between_a_convolution_and_its_add(variant, depth, stream):
    last = "conv3" if depth == 11 else "conv2"
    quantized = {tensor for tensor, _ in uses_of(variant, Scheme("gpu", stream=stream), depth)}
    assert not [tensor for tensor in quantized if tensor.endswith(f"residual.{last}")]


@pytest.mark.parametrize(("variant", "depth"), [("preact", 8), ("preact", 11), ("original", 8)])
def test_observed_are_the_tensors_of_all_flavours_in_order_of_execution(variant, depth):
    model = sample_graph(resnet_config(variant, depth))
    names = [value.name for value in observed_values(model)]
    wanted = set()
    for scheme in (
        Scheme("cpu"),
        Scheme("cpu", stream="fp32"),
        Scheme("gpu"),
        Scheme("gpu", stream="fp16"),
        FP8,
    ):
        wanted |= {tensor for tensor, _ in uses_of(variant, scheme, depth)}
    assert set(names) == wanted
    order = ["images", *(node.outputs[0].name for node in model.graph)]
    assert names == sorted(names, key=order.index)
    assert not {"pool", "flatten", "logits"} & set(names)


# --- the fp32 stream of the CPU ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("variant", "expected"),
    [
        (
            "preact",
            (PREACT_CONV_INPUTS | PREACT_SKIP | PREACT_CPU | {("stem.conv", "stage1.0.preact.bn1")})
            - {("head.relu", "pool")},
        ),
        ("original", (ORIGINAL_CONV_INPUTS | ORIGINAL_SKIP | ORIGINAL_CPU) - {("stage3.0.relu", "pool")}),
    ],
    ids=["preact", "original"],
)
def test_cpu_with_an_fp32_stream_quantizes_sums_for_convolutions_alone(variant, expected):
    assert uses_of(variant, Scheme("cpu", stream="fp32")) == expected


@pytest.mark.parametrize("absorbed", [False, True], ids=["exported", "absorbed"])
@pytest.mark.parametrize("config", TWO_BLOCKS, ids=lambda config: f"{config.variant}-{config.depth}")
def test_fp32_stream_is_the_int8_one_without_the_sums(config, absorbed):
    model = float_graph(config, absorbed)
    sums = set()
    for node in model.graph:
        behind_sum = node.op_type in ("BatchNormalization", "Relu") and node.inputs[0].name in sums
        if node.op_type == "Add" or behind_sum:
            sums.add(node.outputs[0].name)
    whole, rest = edges_of(model, Scheme("cpu")), edges_of(model, Scheme("cpu", stream="fp32"))
    convolutions = {node.name for node in model.graph if node.op_type == "Conv"}
    assert rest == {
        (tensor, reader) for tensor, reader in whole if tensor not in sums or reader in convolutions
    }
    assert "Add" in {node_named(model, reader).op_type for _, reader in whole - rest}


# --- blocks that are left in float ------------------------------------------------------------

BLOCK = "stage2.0.add"
INSIDE = {
    ("preact", 14): {"preact.bn1", "preact.relu1", "projection"},
    ("original", 14): {"projection.conv", "residual.relu1"},
}


@pytest.mark.parametrize(("variant", "depth"), [("preact", 14), ("original", 14)])
def test_nodes_of_a_block_are_both_branches_and_the_sum(variant, depth):
    model = sample_graph(resnet_config(variant, depth))
    inside = {"residual.conv1", "residual.conv2", "add"} | INSIDE[variant, depth]
    if variant == "preact":
        inside |= {"residual.relu2"}
    assert float_nodes(model, [BLOCK]) == {f"stage2.0.{name}" for name in inside}
    # The skip path of an identity block is the stream itself, so the block has no nodes there.
    other = float_nodes(model, ["stage2.1.add"])
    assert all(name.startswith("stage2.1.") for name in other)
    assert float_nodes(model, [BLOCK, "stage2.1.add"]) == float_nodes(model, [BLOCK]) | float_nodes(
        model, ["stage2.1.add"]
    )
    assert float_nodes(model, []) == set()


@pytest.mark.parametrize("absorbed", [False, True], ids=["exported", "absorbed"])
@pytest.mark.parametrize(
    "scheme", [Scheme("gpu"), Scheme("gpu", stream="fp16"), FP8], ids=["int8", "fp16", "fp8"]
)
@pytest.mark.parametrize("variant", ["preact", "original"])
def test_gpu_quantizes_nothing_that_a_float_block_reads(variant, scheme, absorbed):
    model = float_graph(resnet_config(variant, 14), absorbed)
    inside = float_nodes(model, [BLOCK])
    whole, rest = edges_of(model, scheme), edges_of(model, replace(scheme, float_blocks=(BLOCK,)))
    assert rest == {(tensor, reader) for tensor, reader in whole if reader not in inside}
    assert rest < whole


@pytest.mark.parametrize("absorbed", [False, True], ids=["exported", "absorbed"])
@pytest.mark.parametrize("stream", ["int8", "fp32"])
@pytest.mark.parametrize("variant", ["preact", "original"])
def test_cpu_quantizes_of_a_float_block_what_it_reads_and_its_sum(variant, stream, absorbed):
    model = float_graph(resnet_config(variant, 14), absorbed)
    scheme = Scheme("cpu", stream=stream)
    inside = float_nodes(model, [BLOCK]) - {BLOCK}
    whole, rest = edges_of(model, scheme), edges_of(model, replace(scheme, float_blocks=(BLOCK,)))
    assert rest == {(tensor, reader) for tensor, reader in whole if tensor not in inside}
    assert rest < whole


@pytest.mark.parametrize("scheme", [Scheme("cpu"), Scheme("gpu"), FP8], ids=["cpu", "gpu", "fp8"])
def test_unknown_block_is_refused_and_the_known_are_listed(scheme):
    model = sample_graph(resnet_config("preact", 8))
    wrong = replace(scheme, float_blocks=("stage2.0.add", "stage9.0.add", "stem.conv"))
    with pytest.raises(UserError, match=r"no block that ends in stage9\.0\.add, stem\.conv") as refusal:
        edges_of(model, wrong)
    assert refusal.value.fix == "use some of stage1.0.add, stage2.0.add, stage3.0.add"
