"""Which types of a graph the GPUs of a plan do not compute in."""

from collections.abc import Iterator

import onnx_ir as ir

from runtimes.tensorrt.finding import Finding
from runtimes.tensorrt.package import Builder
from runtimes.tensorrt.targets import least_capability, number_of

_PRODUCTS = {"Gemm", "MatMul"}
_PRECISION_OF_CODES = ((ir.DataType.INT8, "int8"), (ir.DataType.FLOAT8E4M3FN, "fp8"))


def target_problems(model: ir.Model, builder: Builder, devices: list[str]) -> Iterator[Finding]:
    """Each precision that some GPUs lack, at the first node that needs the precision."""
    for precision, node in _first_nodes(model).items():
        least = least_capability(builder, precision)
        lacking = [device for device in devices if number_of(device) < least]
        if lacking:
            yield Finding(
                str(node.name),
                f"{builder.title} has no {precision} {node.op_type} on {', '.join(lacking)}",
                f"build another precision for {', '.join(lacking)}",
            )


def _first_nodes(model: ir.Model) -> dict[str, ir.Node]:
    """The first node that needs each precision which not all GPUs have."""
    first: dict[str, ir.Node] = {}
    for node in model.graph:
        for precision in _needs(node):
            first.setdefault(precision, node)
    return first


def _needs(node: ir.Node) -> Iterator[str]:
    read = node.inputs[0] if node.inputs else None
    kind = read.dtype if read is not None else None
    if kind == ir.DataType.BFLOAT16 or any(value.dtype == ir.DataType.BFLOAT16 for value in node.outputs):
        yield "bf16"
    if node.op_type in _PRODUCTS and kind == ir.DataType.FLOAT:
        yield "fp32"
    if node.op_type == "Conv" and read is not None:
        codes = _codes_of(read)
        yield from [name for kind, name in _PRECISION_OF_CODES if kind == codes]


def _codes_of(value: ir.Value) -> ir.DataType | None:
    """The type of the codes behind a dequantized value; None for any other value."""
    dequantize = value.producer()
    if dequantize is None or dequantize.op_type != "DequantizeLinear" or dequantize.inputs[0] is None:
        return None
    return dequantize.inputs[0].dtype
