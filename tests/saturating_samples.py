"""INT8 convolutions whose sums overflow 16 bits or do not, as graphs and as exact integers."""

import numpy as np
import onnx
import onnxruntime

# Of a quantized sum: wide enough to tell most of them apart.
SUM_SCALE, SUM_ZERO_POINT = 1024, 128


def of_convolutions(weights: list[np.ndarray]) -> onnx.ModelProto:
    """Q/DQ convolutions with these int8 weights, each of an input of its own with codes as they are."""
    helper = onnx.helper
    nodes, tensors, inputs, outputs = [], [], [], []
    for value, name in ((np.float32(1), "one"), (np.uint8(0), "zero"), (np.int8(0), "int8_zero")):
        tensors.append(onnx.numpy_helper.from_array(np.asarray(value), name))
    for number, weight in enumerate(weights):
        x, w, y = f"x{number}", f"w{number}", f"y{number}"
        tensors.append(onnx.numpy_helper.from_array(weight, w))
        nodes += [
            helper.make_node("QuantizeLinear", [x, "one", "zero"], [f"{x}.codes"]),
            helper.make_node("DequantizeLinear", [f"{x}.codes", "one", "zero"], [f"{x}.values"]),
            helper.make_node("DequantizeLinear", [w, "one", "int8_zero"], [f"{w}.values"]),
            helper.make_node("Conv", [f"{x}.values", f"{w}.values"], [y]),
        ]
        inputs.append(
            helper.make_tensor_value_info(x, onnx.TensorProto.FLOAT, ["n", weight.shape[1], "h", "w"])
        )
        outputs.append(helper.make_tensor_value_info(y, onnx.TensorProto.FLOAT, None))
    graph = helper.make_graph(nodes, "convolutions", inputs, outputs, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)


def of_integer_convolutions(weights: list[np.ndarray]) -> onnx.ModelProto:
    """The same with each output quantized, without which ONNX Runtime forms no integer convolution."""
    model = of_convolutions(weights)
    graph = model.graph
    graph.initializer.append(onnx.numpy_helper.from_array(np.float32(SUM_SCALE), "scale"))
    graph.initializer.append(onnx.numpy_helper.from_array(np.uint8(SUM_ZERO_POINT), "middle"))
    for conv in [node for node in graph.node if node.op_type == "Conv"]:
        (output,) = conv.output
        conv.output[0] = f"{output}.sum"
        for op_type, source, target in (
            ("QuantizeLinear", f"{output}.sum", f"{output}.codes"),
            ("DequantizeLinear", f"{output}.codes", output),
        ):
            graph.node.append(onnx.helper.make_node(op_type, [source, "scale", "middle"], [target]))
    return model


def run_convolutions(model: onnx.ModelProto, activations: list[np.ndarray]) -> list[np.ndarray]:
    """What ONNX Runtime makes of them."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(None, {f"x{number}": x for number, x in enumerate(activations)})


def exact_sums(weight: np.ndarray, activation: np.ndarray) -> np.ndarray:
    """What an integer convolution of 1x1 returns whose sums are exact."""
    sums = np.einsum("ocij,nchw->nohw", weight.astype(np.int64), activation.astype(np.int64))
    return (np.clip(np.rint(sums / SUM_SCALE) + SUM_ZERO_POINT, 0, 255) - SUM_ZERO_POINT) * SUM_SCALE


def hot_convolution(limit: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A 1x1 convolution of 16 channels, half of its weights at the limit, and large activations."""
    generator = np.random.default_rng(seed)
    weight = generator.choice([-limit, limit, 1, -1], (8, 16, 1, 1)).astype(np.int8)
    return weight, generator.choice([0, 200, 255], (1, 16, 4, 4)).astype(np.float32)
