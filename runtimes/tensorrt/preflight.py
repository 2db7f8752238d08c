"""What is wrong with a graph for TensorRT, said before anything is built and without a GPU.

Some mistakes TensorRT refuses, with an error of its compiler. Others it takes without a word: uint8 codes
are read as int8, and a convolution of which only the weights are quantized runs in float16. One ends the
process: TensorRT for RTX 1.7.1 crashes on a scale that is computed. Every finding names the node and how to
mend the graph.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx_ir as ir

from errors import CheckFailed
from graphs.onnx_file import any_graph_from_file
from runtimes.tensorrt.finding import Finding
from runtimes.tensorrt.package import Builder
from runtimes.tensorrt.preflight_quantization import quantization_problems
from runtimes.tensorrt.preflight_targets import target_problems

_NAMED = 3
_NO_TYPES = {ir.DataType.DOUBLE, ir.DataType.COMPLEX64, ir.DataType.COMPLEX128, ir.DataType.STRING}


def preflight(model: ir.Model, builder: Builder, devices: list[str]) -> list[Finding]:
    """Look for everything that TensorRT refuses or misreads.

    Args:
        model: with the types and shapes of all tensors, as `any_graph_from_file` reads it.
        devices: GPUs that the plan is for, such as "sm89"; none checks the graph alone.
    """
    return [
        *_operators(model),
        *_names(model),
        *_types(model),
        *quantization_problems(model),
        *target_problems(model, builder, devices),
    ]


def require_buildable(graph: Path, builder: Builder, devices: list[str]) -> None:
    """Refuse to build from a file in which `preflight` finds something.

    Raises:
        CheckFailed: names the nodes, what is wrong with them and how to mend the graph.
    """
    findings = preflight(any_graph_from_file(graph), builder, devices)
    if not findings:
        return
    words = "; ".join(f"{finding.node}: {finding.problem}" for finding in findings[:_NAMED])
    more = f"; and {len(findings) - _NAMED} more" if findings[_NAMED:] else ""
    raise CheckFailed(
        f"{graph.name} is no graph for {builder.title}: {words}{more}",
        "; ".join(dict.fromkeys(finding.fix for finding in findings[:_NAMED])),
    )


def _operators(model: ir.Model) -> Iterator[Finding]:
    for node in model.graph:
        if node.op_type.startswith(("QLinear", "QGemm")) or node.op_type.endswith("Integer"):
            yield Finding(
                str(node.name),
                f"TensorRT's parser has no {node.op_type}",
                "write quantized operators as QuantizeLinear and DequantizeLinear around float operators",
            )


def _names(model: ir.Model) -> Iterator[Finding]:
    """The plan is matched with the graph by the names of convolutions."""
    nameless = [node for node in model.graph if node.op_type == "Conv" and not node.name]
    if nameless:
        conv = [node for node in model.graph if node.op_type == "Conv"]
        yield Finding(
            f"convolution {conv.index(nameless[0]) + 1}",
            "a convolution without a name cannot be found again in the plan",
            "give every node a name",
        )
    counts = Counter(node.name for node in model.graph if node.name)
    for name, count in counts.items():
        if count > 1:
            yield Finding(str(name), f"{count} nodes have this name", "give every node a name of its own")


def _types(model: ir.Model) -> Iterator[Finding]:
    for node in model.graph:
        for value in node.outputs:
            if value.dtype in _NO_TYPES:
                yield Finding(
                    str(node.name),
                    f"TensorRT does not compute in {_type_name(value.dtype)}",
                    "export the network in float32 or float16",
                )
                return


def _type_name(kind: Any) -> str:
    return {"DOUBLE": "float64"}.get(kind.name, kind.name.lower())
