"""The documents are made by hand after NVIDIA's documentation: no GPU was at hand to record any."""

import json

import pytest
from pretended_tensorrt import classic_convolution, inspector_document

from errors import CheckFailed
from runtimes.tensorrt.layers_from_inspector import layers_from_inspector
from runtimes.tensorrt.plan_layers import Tensor

COMPILED = {
    "Name": "__myl_CorrMulAddRelu_myl0_11 [profile 1]",
    "LayerType": "runtime_fusion",
    "Inputs": [{"Name": "x", "Dimensions": [-1, 16, 8, 8], "Datatype": "Half", "Format": "NHWC"}],
    "Constants": [{"Name": "w", "Dimensions": [16, 16, 3, 3], "Datatype": "Half", "Format": "NHWC"}],
    "Outputs": [{"Name": "y", "Dimensions": [-1, 16, 8, 8], "Datatype": "Half", "Format": "NHWC"}],
    "TacticName": "",
    "Metadata": "[ONNX Layer: conv1]",
}


def test_a_convolution_of_tensorrt_10_is_read() -> None:
    (layer,) = layers_from_inspector(inspector_document(classic_convolution("stem", (16, 3, 3, 3), "Int8")))
    assert (layer.name, layer.kind, layer.profile) == ("stem", "Convolution", 0)
    assert layer.inputs[0].type == layer.outputs[0].type == "int8"
    assert layer.inputs[0].format == "Channel major Int8 format where channel % 8 == 0"
    assert layer.constants == (Tensor("Weights", (432,), "int8", ""), Tensor("Bias", (16,), "int8", ""))
    assert layer.nodes == ("stem", "stem.relu")
    assert layer.bytes_read(2) == 3 * 32 * 32 + 432 + 16


def test_a_layer_of_tensorrt_11_is_read() -> None:
    (layer,) = layers_from_inspector(json.dumps({"Layers": [COMPILED], "I/O Tensors": []}))
    assert (layer.kind, layer.profile, layer.nodes) == ("runtime_fusion", 1, ("conv1",))
    assert layer.inputs == (Tensor("x", (-1, 16, 8, 8), "float16", "NHWC"),)
    assert layer.constants == (Tensor("w", (16, 16, 3, 3), "float16", "NHWC"),)


@pytest.mark.parametrize(
    ("described", "kind"),
    [
        ("Row major linear FP32", "float32"),
        ("Thirty-two wide channel vectorized row major Int8 format.", "int8"),
        ("Channel major BFloat16 format where channel % 8 == 0", "bfloat16"),
        ("Row major linear FP8 format", "float8"),
        ("Row major linear BOOL", "bool"),
        ("Half", "float16"),
    ],
)
def test_types_are_told_in_words_or_by_name(described: str, kind: str) -> None:
    tensor = {"Name": "x", "Dimensions": [1], "Format/Datatype": described}
    (layer,) = layers_from_inspector(
        inspector_document({"Name": "a", "LayerType": "Reformat", "Inputs": [tensor], "Outputs": [tensor]})
    )
    assert layer.inputs[0].type == kind


def test_names_alone_say_how_to_mend_it() -> None:
    with pytest.raises(CheckFailed, match="tells the name of the layer 'stem' and nothing more") as failure:
        layers_from_inspector(inspector_document("stem"))
    assert "detailed profiling verbosity" in failure.value.fix


@pytest.mark.parametrize(
    "document",
    [
        "",
        "no JSON",
        "[]",
        "{}",
        inspector_document({"Name": "x"}),
        inspector_document(COMPILED | {"Inputs": [{"Name": "x", "Dimensions": [1], "Datatype": "Quarter"}]}),
        inspector_document(
            COMPILED | {"Inputs": [{"Name": "x", "Dimensions": [1], "Format/Datatype": "Linear"}]}
        ),
        inspector_document(COMPILED | {"Inputs": [{"Name": "x", "Dimensions": 1, "Datatype": "Half"}]}),
    ],
)
def test_a_document_of_another_form_is_an_error(document: str) -> None:
    with pytest.raises(CheckFailed, match="not known to skipfold"):
        layers_from_inspector(document)
