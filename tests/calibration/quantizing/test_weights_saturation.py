"""These tests say which weights are kept so small that no two products overflow 16 bits."""

from itertools import combinations

import numpy as np
from quantized_samples import (
    CPU,
    every_network,
    nodes_of,
    pair_of,
    quantized,
    shared_graph,
)
from sample_networks import (
    TWO_BLOCKS,
    node_named,
)

from calibration.quantizing.scheme import Scheme
from graphs.onnx_file import constant
from graphs.saturation import not_proved_free, saturation_findings


@every_network
def test_cpu_stem_cannot_overflow_16_bits(network):
    cpu_graph = shared_graph(network, CPU)
    stem = node_named(cpu_graph, "stem.conv")
    assert constant(pair_of(stem.inputs[0])[0].inputs[2]) > 0
    codes = constant(stem.inputs[1].producer().inputs[0]).astype(int)
    worst = 0
    for channel in codes.reshape(len(codes), -1).tolist():
        worst = max(worst, *(255 * abs(one + other) for one, other in combinations(channel, 2)))
    assert worst <= 2**15 - 1
    # Yet no range is wasted: the largest pair comes near the limit, or the largest weight has code 127.
    assert worst > 0.9 * 2**15 or np.abs(codes).max() == 127


@every_network
def test_cpu_convolutions_behind_a_relu_use_all_codes(network):
    cpu_graph = shared_graph(network, CPU)
    for conv in nodes_of(cpu_graph, "Conv"):
        quantize_node, _ = pair_of(conv.inputs[0])
        if constant(quantize_node.inputs[2]) == 0:
            codes = constant(conv.inputs[1].producer().inputs[0])
            assert (np.abs(codes.reshape(len(codes), -1).astype(int)).max(1) == 127).mean() > 0.9


def test_cpu_convolutions_behind_cut_codes_cannot_overflow_16_bits():
    """The input of such a convolution has a zero point above 0, so every code is large, as in the stem."""
    for config in TWO_BLOCKS:
        if config.variant == "original":
            continue
        model = quantized(config, CPU, absorbed=True)
        behind = {
            node.name
            for clip in nodes_of(model, "Clip")
            for dequantize, _ in clip.outputs[0].uses()
            for node, _ in dequantize.outputs[0].uses()
        }
        findings = {finding.node: finding for finding in saturation_findings(model)}
        assert behind
        assert {findings[name].verdict for name in {*behind, "stem.conv"}} == {"free"}
        wide = {
            finding.node: finding
            for finding in saturation_findings(
                quantized(config, Scheme("cpu", saturation="full"), absorbed=True)
            )
        }
        assert "can saturate" in {wide[name].verdict for name in behind}


@every_network
def _unsafe(saturation, network):
    model = quantized(network, Scheme("cpu", saturation=saturation))
    findings = saturation_findings(model)
    assert len(findings) == len(nodes_of(model, "Conv"))
    return not_proved_free(findings)


@every_network
def test_proved_graph_is_saturation_free(network):
    assert _unsafe("proved", network) == []


@every_network
def test_stem_alone_is_safe_by_default_and_nothing_in_the_full_graph(network):
    stem, full = _unsafe("stem", network), _unsafe("full", network)
    assert "stem.conv" not in stem
    assert set(full) > set(stem)
    assert "stem.conv" in full
