"""Q/DQ graphs for TensorRT for RTX: their structure and how near they are to the float ones."""

import json

import numpy as np
import onnx_ir as ir
import pytest
from quantized_samples import (
    IMAGES,
    calibrated_on,
    float_graph,
    nodes_of,
    quantized,
    quantized_and_count,
    snr_db,
)
from sample_networks import (
    FOUR_BLOCKS,
    TWO_BLOCKS,
    graph_of,
    network_with_dead_parts,
    run_graph,
    sample_card,
)

from artifacts.names import MODEL, MODEL_FP8_RTX, MODEL_INT8_RTX, MODEL_REPARAMETRIZED
from calibration.quantizing.free_codes import convolutions_with_free_codes
from calibration.quantizing.qdq import FILES, qdq_from_ranges, source_of
from calibration.quantizing.quantize import Quantize
from calibration.quantizing.scales import Range
from calibration.quantizing.scheme import RTX, RTX_FP8
from calibration.rewriting.equalize_convolutions import EqualizeConvolutions
from errors import UserError
from graphs.epilogue import convolutions_that_write
from graphs.onnx_file import card_from_file, constant, write_graph
from models.config import resnet_config

SCHEMES = [RTX, RTX_FP8]
NETWORKS = [*(resnet_config(*named) for named in FOUR_BLOCKS), *TWO_BLOCKS]
CODES = {"int8": ir.DataType.INT8, "fp8": ir.DataType.FLOAT8E4M3FN}
ABSORBED = pytest.mark.parametrize("absorbed", [False, True], ids=["exported", "absorbed"])
EACH_SCHEME = pytest.mark.parametrize("scheme", SCHEMES, ids=["int8", "fp8"])


@pytest.fixture(scope="module", params=NETWORKS, ids=lambda config: f"{config.variant}-{config.depth}")
def network(request):
    return request.param


def is_coded(conv):
    return conv.inputs[1].const_value is None


@ABSORBED
@EACH_SCHEME
def test_convolutions_are_quantized_where_codes_are_free(network, scheme, absorbed):
    model, in_float = quantized_and_count(network, scheme, absorbed)
    convolutions = nodes_of(model, "Conv")
    expected = convolutions_with_free_codes(float_graph(network, absorbed), scheme)
    assert [conv.name for conv in convolutions if is_coded(conv)] == [conv.name for conv in expected]
    assert in_float == len(convolutions) - len(expected)


@EACH_SCHEME
def test_data_and_weights_are_symmetric_codes_with_one_float16_scale(network, scheme):
    for node in nodes_of(quantized(network, scheme), "DequantizeLinear"):
        codes, scale, zero_point = node.inputs
        assert constant(scale).dtype == np.float16
        assert constant(scale).shape == constant(zero_point).shape == ()
        assert constant(scale) > 0
        assert zero_point.const_value.dtype == CODES[scheme.precision]
        assert not constant(zero_point).astype(np.float32).any()
        assert len(node.outputs[0].uses()) == 1
        if codes.const_value is not None and scheme is RTX:
            assert np.abs(constant(codes).astype(np.int16)).max() == 127


@ABSORBED
def test_no_quantize_linear_stands_behind_a_convolution(network, absorbed):
    """RTX would give each a kernel of its own."""
    model = quantized(network, RTX, absorbed)
    for node in nodes_of(model, "QuantizeLinear"):
        assert convolutions_that_write(node.inputs[0]) == []
    rounded = [node for node in nodes_of(model, "Cast") if node.outputs[0].name.endswith(".codes")]
    for cast in rounded:
        assert cast.attributes["to"].as_int() == ir.DataType.INT8
    sources = {node.inputs[0].name for node in nodes_of(model, "DequantizeLinear")}
    written = {node.outputs[0].name for node in [*nodes_of(model, "QuantizeLinear"), *rounded]}
    assert written == {name for name in sources if name.endswith(".codes")} - set(model.graph.initializers)


@ABSORBED
@EACH_SCHEME
def test_graph_is_valid_and_close_to_the_float_one(tmp_path, network, scheme, absorbed):
    (expected,) = run_graph(float_graph(network, absorbed), IMAGES)
    path = tmp_path / "quantized.onnx"
    write_graph(quantized(network, scheme, absorbed), sample_card(network), path)
    (logits,) = run_graph(path, IMAGES, optimized=False)
    assert (logits.dtype, logits.shape) == (np.float32, expected.shape)
    assert snr_db(expected, logits) > (20 if scheme is RTX else 15)
    (alone,) = run_graph(path, IMAGES[:1], optimized=False)
    np.testing.assert_allclose(alone, logits[:1], atol=1e-2 * np.abs(expected).max())


def test_one_scale_for_a_weight_is_enough_because_the_channels_were_made_alike(monkeypatch):
    """Twin: without that, the small channels of a weight have few steps."""
    config = resnet_config("preact", 14)
    (expected,) = run_graph(float_graph(config), IMAGES)

    def db():
        return snr_db(expected, run_graph(quantized(config, RTX), IMAGES, optimized=False)[0])

    alike = db()
    monkeypatch.setattr(EqualizeConvolutions, "rewrite", lambda self, graph: self.result())
    monkeypatch.setattr(EqualizeConvolutions, "ensures", lambda self, graph, result: None)
    assert alike > db() + 3


@EACH_SCHEME
def test_dead_tensors_and_channels_stay_finite_and_right(scheme):
    graph = graph_of(network_with_dead_parts())
    (expected,) = run_graph(graph, IMAGES)
    Quantize(calibrated_on(graph), scheme)(graph)
    for name, value in graph.graph.initializers.items():
        assert np.isfinite(constant(value).astype(np.float64)).all(), name
    (logits,) = run_graph(graph, IMAGES, optimized=False)
    assert snr_db(expected, logits) > (20 if scheme is RTX else 15)


@EACH_SCHEME
def test_all_ranges_empty_is_still_a_graph(scheme):
    model = float_graph(resnet_config("preact", 8))
    empty = {name: entry._replace(range=Range(0, 0, 0)) for name, entry in calibrated_on(model).items()}
    Quantize(empty, scheme)(model)
    assert np.isfinite(run_graph(model, IMAGES[:2], optimized=False)[0]).all()


@EACH_SCHEME
def test_ranges_of_another_network_are_refused(scheme):
    other = calibrated_on(float_graph(resnet_config("original", 8)))
    with pytest.raises(UserError, match=r"no range for .*another network"):
        Quantize(other, scheme)(float_graph(resnet_config("preact", 8)))


@pytest.mark.parametrize(("scheme", "file"), [(RTX, MODEL_INT8_RTX), (RTX_FP8, MODEL_FP8_RTX)])
def test_files_are_written_once_and_carry_their_flavour(run, scheme, file):
    assert FILES[scheme.precision, scheme.flavour] == file
    assert source_of(scheme) == MODEL_REPARAMETRIZED
    before = (run.path / file).read_bytes()
    assert not qdq_from_ranges(run, scheme)
    assert qdq_from_ranges(run, scheme, force=True)
    assert (run.path / file).read_bytes() == before
    card = card_from_file(run.path / file)
    assert (card.precision, card.flavour, card.saturation) == (scheme.precision, "rtx", "")
    assert card.is_same_network(card_from_file(run.path / MODEL))
    assert run.record(file).options == json.loads(json.dumps(scheme.to_json()))
