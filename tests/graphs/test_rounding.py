import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from ml_dtypes import bfloat16
from onnx.reference import ReferenceEvaluator

from graphs.rounding import ExplicitRounding

CHAIN = """
<ir_version: 9, opset_import: ["": 19]>
chain (float[n] images) => (float[n] logits) {
    x = Cast <to = 10> (images)
    y = Mul (x, x)
    z = Mul (y, y)
    w = Sqrt (z)
    logits = Cast <to = 1> (w)
}
"""


def explicit(chain: str = CHAIN) -> bytes:
    model = ir.from_proto(onnx.shape_inference.infer_shapes(onnx.parser.parse_model(chain)))
    assert len(ExplicitRounding()(model).changed) == 3
    return ir.to_proto(model).SerializeToString()


def by_onnxruntime(content: bytes, values: np.ndarray) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return session.run(None, {"images": values})[0]


def test_every_operator_is_rounded_as_onnx_defines_it() -> None:
    values = np.linspace(0.1, 12, 97, dtype=np.float32)
    expected = ReferenceEvaluator(onnx.parser.parse_model(CHAIN)).run(None, {"images": values})[0]
    np.testing.assert_array_equal(by_onnxruntime(explicit(), values), expected)
    float32 = np.sqrt((values.astype(np.float16).astype(np.float32) ** 2) ** 2)
    assert (expected != float32).any(), "the case would not tell float16 from float32"


def test_every_operator_is_rounded_to_bfloat16() -> None:
    """ONNX Runtime has no bfloat16 kernels for these operators on x86, so nothing but the casts can round."""
    chain = CHAIN.replace("<to = 10>", "<to = 16>").replace("w = Sqrt (z)", "w = Mul (z, y)")
    values = np.linspace(0.1, 12, 97, dtype=np.float32)
    x = values.astype(bfloat16)
    y = _product(x, x)
    expected = _product(_product(y, y), y)
    rounded = by_onnxruntime(explicit(chain), values)
    np.testing.assert_array_equal(rounded, expected.astype(np.float32))
    once = (x.astype(np.float32) ** 6).astype(bfloat16)
    assert (rounded != once.astype(np.float32)).any(), "the case would not tell one rounding from three"


def _product(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return (one.astype(np.float32) * other.astype(np.float32)).astype(bfloat16)


def test_what_float16_cannot_hold_overflows() -> None:
    values = np.array([3.0, 20.0], np.float32)  # 20^4 is over 65504
    rounded = by_onnxruntime(explicit(), values)
    assert rounded[0] == pytest.approx(9) and np.isinf(rounded[1])
