"""The final layers from TensorRT's engine inspector, which needs a GPU and a deserialized engine.

`EngineInspector.get_engine_information(LayerInformationFormat.JSON)` of an engine that was built with
`profiling_verbosity` DETAILED gives a JSON document (NVIDIA TensorRT documentation, "Engine Inspector"):

    {"Layers": [{"Name": "stem.conv", "LayerType": "CaskConvolution", "ParameterType": "Convolution",
                 "Inputs": [{"Name": …, "Dimensions": [1,3,32,32],
                             "Format/Datatype": "Row major linear FP16 format"}], "Outputs": […],
                 "Weights": {"Type": "Half", "Count": 432}, "Bias": {"Type": "Half", "Count": 16},
                 "TacticName": …, "Metadata": "[ONNX Layer: stem.conv]"}],
     "Bindings": ["images", "logits"]}

TensorRT 11 writes "Datatype" and "Format" apart instead of "Format/Datatype", and "I/O Tensors" instead
of "Bindings". Layers of a compiled graph have "Constants" as well. Both forms are read here. No document of
a real engine has been read yet, because no machine with a GPU was at hand: the tests use documents made by
hand.
"""

import json
from typing import Any

from errors import CheckFailed
from runtimes.tensorrt.plan_layers import NODE, PROFILE, TYPE_NAMES, Layer, Tensor

# Name given to the weights of a layer that tells their type and number only.
WEIGHTS = "Weights"
# How descriptions such as "Channel major FP16 format where channel % 8 == 0" name the types.
_DESCRIBED = {
    "FP32": "float32", "FP16": "float16", "BFloat16": "bfloat16", "BF16": "bfloat16", "FP8": "float8",
    "Int8": "int8", "INT8": "int8", "UInt8": "uint8", "Int32": "int32", "INT32": "int32",
    "Int64": "int64", "INT64": "int64", "BOOL": "bool", "Bool": "bool", "INT4": "int4", "FP4": "float4",
}  # fmt: skip


def layers_from_inspector(document: str) -> tuple[Layer, ...]:
    """Read the layers in their order.

    Args:
        document: the inspector's JSON.

    Raises:
        CheckFailed: the document is no JSON, holds names alone, or an entry has a form that is not known
            here; the error quotes the entry.
    """
    try:
        entries = json.loads(document)["Layers"]
    except (ValueError, KeyError, TypeError) as error:
        raise _unknown(document[:200]) from error
    return tuple(_layer(entry) for entry in entries)


def _layer(entry: Any) -> Layer:
    if not isinstance(entry, dict):
        raise CheckFailed(
            f"the engine inspector tells the name of the layer '{entry}' and nothing more",
            "build the engine again: only plans built with detailed profiling verbosity tell their layers",
        )
    try:
        return Layer(
            name=entry["Name"],
            kind=_kind(entry),
            profile=_profile(entry),
            inputs=tuple(_tensor(tensor) for tensor in entry["Inputs"]),
            constants=tuple(_constants(entry)),
            outputs=tuple(_tensor(tensor) for tensor in entry["Outputs"]),
            tactic=entry.get("TacticName", ""),
            nodes=tuple(NODE.findall(entry.get("Metadata", ""))),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise _unknown(json.dumps(entry)) from error


def _kind(entry: dict[str, Any]) -> str:
    """The layer's type; every kernel library has a name of its own for a convolution."""
    return "Convolution" if entry.get("ParameterType") == "Convolution" else entry["LayerType"]


def _profile(entry: dict[str, Any]) -> int:
    names = [entry["Name"], *(tensor["Name"] for tensor in (*entry["Inputs"], *entry["Outputs"]))]
    return next((int(profile) for name in names for profile in PROFILE.findall(name)), 0)


def _tensor(tensor: dict[str, Any]) -> Tensor:
    described = tensor.get("Datatype", tensor.get("Format/Datatype"))
    order = tensor.get("Format", described)
    return Tensor(tensor["Name"], tuple(tensor["Dimensions"]), _type(described), str(order))


def _constants(entry: dict[str, Any]) -> list[Tensor]:
    """Constants with their shapes, and weights and bias of which only type and number are told."""
    counted = [(name, entry[name]) for name in (WEIGHTS, "Bias") if entry.get(name, {}).get("Count")]
    return [
        *(_tensor(tensor) for tensor in entry.get("Constants", [])),
        *(Tensor(name, (told["Count"],), _type(told["Type"]), "") for name, told in counted),
    ]


def _type(described: Any) -> str:
    if described in TYPE_NAMES:
        return TYPE_NAMES[described]
    # A description holds one such word; any other number of them is not understood.
    (name,) = {_DESCRIBED[word.rstrip(".")] for word in described.split() if word.rstrip(".") in _DESCRIBED}
    return name


def _unknown(entry: str) -> CheckFailed:
    return CheckFailed(
        "an entry of the engine inspector is not known to skipfold, and what is not understood proves "
        f"nothing: '{entry}'",
        "report this entry together with the version of TensorRT",
    )
