import pytest
from sample_networks import sample_graph

from calibration.bn_as_convolution import bn_as_convolution
from calibration.placement import fp8_uses, observed_values, quantized_uses
from models.config import resnet_config

# (tensor, consumer), both by the names of the network.
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
# On the CPU the other operand of each Add too, and what is pooled.
PREACT_CPU = {(f"stage{n}.0.residual.conv2", f"stage{n}.0.add") for n in (1, 2, 3)} | {("head.relu", "pool")}
ORIGINAL_CPU = {(f"stage{n}.0.residual.conv2", f"stage{n}.0.add") for n in (1, 2, 3)} | {
    ("stage3.0.relu", "pool")
}


def uses_of(variant, flavour, stream="int8", depth=8, rewritten=False):
    model = sample_graph(resnet_config(variant, depth))
    if rewritten:
        bn_as_convolution(model)
    uses = quantized_uses(model, flavour, stream)
    for use in uses:
        assert use.consumer.inputs[use.index] is use.value
    edges = [(use.value.name, use.consumer.name) for use in uses]
    assert len(edges) == len(set(edges))
    return set(edges)


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
    assert uses_of(variant, "cpu", rewritten=rewritten) == expected


@pytest.mark.parametrize(
    ("variant", "expected"),
    [
        ("preact", PREACT_CONV_INPUTS | PREACT_SKIP | PREACT_BN),
        ("original", ORIGINAL_CONV_INPUTS | ORIGINAL_SKIP),
    ],
)
def test_gpu_quantizes_convolution_inputs_and_the_skip_path(variant, expected):
    assert uses_of(variant, "gpu") == expected


@pytest.mark.parametrize(
    ("variant", "expected"), [("preact", PREACT_CONV_INPUTS), ("original", ORIGINAL_CONV_INPUTS)]
)
@pytest.mark.parametrize("stream", ["fp16", "fp32"])
def test_gpu_with_a_float_stream_leaves_the_skip_path_alone(variant, expected, stream):
    assert uses_of(variant, "gpu", stream) == expected


@pytest.mark.parametrize(
    ("variant", "expected"), [("preact", PREACT_CONV_INPUTS), ("original", ORIGINAL_CONV_INPUTS)]
)
def test_fp8_is_for_the_inputs_of_all_convolutions_but_the_stem(variant, expected):
    uses = fp8_uses(sample_graph(resnet_config(variant, 8)))
    assert {(use.value.name, use.consumer.name) for use in uses} == expected - {("images", "stem.conv")}


@pytest.mark.parametrize("depth", [8, 11, 20])
@pytest.mark.parametrize("variant", ["preact", "original"])
@pytest.mark.parametrize("stream", ["int8", "fp16", "fp32"])
def test_gpu_never_quantizes_between_a_convolution_and_its_add(variant, depth, stream):
    last = "conv3" if depth == 11 else "conv2"
    quantized = {tensor for tensor, _ in uses_of(variant, "gpu", stream, depth)}
    assert not [tensor for tensor in quantized if tensor.endswith(f"residual.{last}")]


@pytest.mark.parametrize(("variant", "depth"), [("preact", 8), ("preact", 11), ("original", 8)])
def test_observed_are_the_tensors_of_all_flavours_in_order_of_execution(variant, depth):
    model = sample_graph(resnet_config(variant, depth))
    names = [value.name for value in observed_values(model)]
    wanted = set()
    for flavour, stream in (("cpu", "int8"), ("gpu", "int8"), ("gpu", "fp16")):
        wanted |= {tensor for tensor, _ in uses_of(variant, flavour, stream, depth)}
    assert set(names) == wanted
    order = ["images", *(node.outputs[0].name for node in model.graph)]
    assert names == sorted(names, key=order.index)
    assert not {"pool", "flatten", "logits"} & set(names)
