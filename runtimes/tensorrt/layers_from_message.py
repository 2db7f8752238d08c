"""The final layers from what TensorRT logs at the end of a build, for which no GPU is needed.

With the builder's `profiling_verbosity` at DETAILED, one message of severity VERBOSE begins with "Layers:":

    Layers:
    Name: stem.conv_U1_myl0_2, LayerType: correlation, Inputs: [ { Name: …, Dimensions: [-1,4,32,32],
    Strides: [4096,1,128,4], StrideOrder: [3,0,2,1], Datatype: Half, Format: (NHWC) Channel major format }],
    Constants: [ … ], Outputs: [ … ], TacticName: __myelin_CASK_STUB, StreamId: 0,
    Metadata: [ONNX Layer: stem.conv]
    …                                  (each layer on one line)

    I/O Tensors:
     Name: images, IOMode: Input, …

    Engine Metadata:
     Multi-Device: Disabled

The message is nowhere documented. Its layers have this form in TensorRT for RTX 1.5, 1.6 and 1.7. A line of
any other form is an error, because a kernel that was skipped would be missing from the proof of the
precision.
"""

import re
from itertools import groupby

from errors import CheckFailed
from runtimes.tensorrt.plan_layers import NODE, PROFILE, TYPE_NAMES, Layer, Tensor

HEADING = "Layers:"
# What stands behind the layers says nothing about kernels. These lines are known and left unread.
_OTHER_SECTIONS = {"I/O Tensors:": " Name: ", "Engine Metadata:": " Multi-Device: "}
_LINE = re.compile(
    r"Name: (?P<name>.*?), LayerType: (?P<kind>\w+), Inputs: \[(?P<inputs>.*?)\], "
    r"Constants: \[(?P<constants>.*?)\], Outputs: \[(?P<outputs>.*?)\], "
    r"TacticName: (?P<tactic>.*?), StreamId: \d+(?:, EventId: \d+)?, "
    r"Metadata: (?P<metadata>(?:\[ONNX Layer: [^\[\]]+\][\x1e\x1f]?)*)"
)
_TENSOR = re.compile(
    r"\{ Name: (?P<name>.*?), Dimensions: \[(?P<shape>[-\d,]*)\], Strides: \[[-\d,]*\], "
    r"StrideOrder: \[[-\d,]*\], Datatype: (?P<type>\w+), Format: \((?P<format>\w+)\) .*?\}"
)
# The compiled graph that a layer belongs to; every profile has at least one of its own.
_COMPILED_GRAPH = re.compile(r"_myl(\d+)_\d+$")


def layers_from_message(message: str) -> tuple[Layer, ...]:
    """Read the layers in their order.

    Args:
        message: the whole message, from "Layers:" on.

    Raises:
        CheckFailed: a line has a form or a data type that is not known here; the error quotes the line.
    """
    lines = _lines_of_layers(message)
    layers = []
    for _, group in groupby(lines, _compiled_graph):
        of_one_graph = list(group)
        # Only some names carry the profile, but all layers of a compiled graph serve the same one.
        profile = next((int(p) for line in of_one_graph for p in PROFILE.findall(line)), 0)
        layers += [_layer(line, profile) for line in of_one_graph]
    return tuple(layers)


def _lines_of_layers(message: str) -> list[str]:
    """The lines below the heading; what stands in other sections is checked and left out."""
    # Not `splitlines`, because that splits at the separators inside the metadata as well.
    first, *rest = message.split("\n")
    if first.strip() != HEADING:
        raise _unknown(first, "the heading")
    lines, begins = [], ""
    for line in filter(str.strip, rest):
        if line in _OTHER_SECTIONS:
            begins = _OTHER_SECTIONS[line]
        elif not begins:
            lines.append(line)
        elif not line.startswith(begins):
            raise _unknown(line, "a line below the layers")
    return lines


def _compiled_graph(line: str) -> str:
    name = line.split(", LayerType: ")[0]
    graph = _COMPILED_GRAPH.search(name)
    return graph[1] if graph else name


def _layer(line: str, profile: int) -> Layer:
    parts = _matched(_LINE, line, line)
    return Layer(
        name=parts["name"],
        kind=parts["kind"],
        profile=profile,
        inputs=_tensors(parts["inputs"], line),
        constants=_tensors(parts["constants"], line),
        outputs=_tensors(parts["outputs"], line),
        tactic=parts["tactic"],
        nodes=tuple(NODE.findall(parts["metadata"])),
    )


def _tensors(text: str, line: str) -> tuple[Tensor, ...]:
    entries = re.split(r"(?<=\}), (?=\{ Name: )", text.strip()) if text.strip() else []
    return tuple(_tensor(entry, line) for entry in entries)


def _tensor(entry: str, line: str) -> Tensor:
    parts = _matched(_TENSOR, entry, line)
    if parts["type"] not in TYPE_NAMES:
        raise _unknown(line, f"the data type {parts['type']}")
    shape = tuple(int(size) for size in parts["shape"].split(",") if size)
    return Tensor(parts["name"], shape, TYPE_NAMES[parts["type"]], parts["format"])


def _matched(pattern: re.Pattern[str], text: str, line: str) -> re.Match[str]:
    match = pattern.fullmatch(text)
    if match is None:
        raise _unknown(line, "a line of TensorRT's list of layers")
    return match


def _unknown(line: str, what: str) -> CheckFailed:
    return CheckFailed(
        f"{what} is not known to skipfold, and what is not understood proves nothing: '{line}'",
        "report this line together with the version of TensorRT, or build with tensorrt-rtx 1.7",
    )
