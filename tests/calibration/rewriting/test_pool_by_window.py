import numpy as np
import onnx_ir as ir
import pytest
from sample_networks import op_types, run_graph, sample_graph, sample_images

from calibration.rewriting.pool_by_window import PoolByWindow
from models.config import resnet_config

IMAGES = sample_images(3)


@pytest.mark.parametrize("variant", ["preact", "original"])
def test_window_is_the_whole_image(variant):
    model = sample_graph(resnet_config(variant, 8))
    (expected,) = run_graph(model, IMAGES)
    assert PoolByWindow()(model).changed == ("pool",)
    assert "GlobalAveragePool" not in op_types(model)
    (pool,) = (node for node in model.graph if node.op_type == "AveragePool")
    assert pool.attributes["kernel_shape"].as_ints() == (8, 8)
    np.testing.assert_allclose(run_graph(model, IMAGES)[0], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [None, ir.Shape(["N", 64, "H", 8])], ids=["unknown", "height is free"])
def test_image_without_a_fixed_size_is_left(shape):
    model = sample_graph(resnet_config("preact", 8))
    (pool,) = (node for node in model.graph if node.op_type == "GlobalAveragePool")
    pool.inputs[0].shape = shape
    assert PoolByWindow()(model).refused.keys() == {"pool"}
    assert "GlobalAveragePool" in op_types(model)
