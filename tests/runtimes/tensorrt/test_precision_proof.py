from dataclasses import replace
from typing import Any

import pytest
from pretended_tensorrt import classic_convolution, inspector_document
from recorded_plans import CONVOLUTIONS, FP8, FP16, INT8, TURING, layers_of
from sample_networks import sample_card

from artifacts.names import MODEL, MODEL_INT8_GPU, MODEL_INT8_RTX
from artifacts.run_directory import RunDirectory
from errors import CheckFailed
from graphs.onnx_file import graph_from_file
from models.config import resnet_config
from runtimes.tensorrt.layers_from_inspector import layers_from_inspector
from runtimes.tensorrt.precision_proof import (
    UNKNOWN,
    Convolution,
    convolutions_of,
    is_as_asked,
    require_precision,
    types_of_convolutions,
)

CARD = sample_card(resnet_config("preact", 8))
STEM = CONVOLUTIONS[0]


@pytest.mark.parametrize(
    ("plan", "profiles", "stem", "others"),
    [
        (FP16, 2, "float16", "float16"),
        (INT8, 1, "int8", "int8"),
        (TURING, 1, "float16", "float16"),
        (FP8, 1, "float16", "float8"),
    ],
)
def test_types_are_those_of_the_kernels(plan: str, profiles: int, stem: str, others: str) -> None:
    types = types_of_convolutions(layers_of(plan), CONVOLUTIONS, profiles)
    assert types == {conv.name: stem if conv == STEM else others for conv in CONVOLUTIONS}


def test_two_convolutions_of_fp16_hide_in_fused_kernels() -> None:
    fused = [layer for layer in layers_of(FP16) if layer.kind == "runtime_fusion" and "Corr" in layer.name]
    named = {name for layer in fused for name in layer.nodes} & {conv.name for conv in CONVOLUTIONS}
    assert named == {"stage1.0.residual.conv2", "stage2.0.residual.conv2"}
    rest = [layer for layer in layers_of(FP16) if layer not in fused]
    types = types_of_convolutions(rest, CONVOLUTIONS, 2)
    assert {name for name, kind in types.items() if kind == UNKNOWN} == named


def test_a_profile_without_a_convolution_proves_nothing_of_it() -> None:
    layers = [layer for layer in layers_of(FP16) if layer.profile == 0 or "stem.conv" not in layer.nodes]
    assert types_of_convolutions(layers, CONVOLUTIONS, 2)["stem.conv"] == UNKNOWN
    assert types_of_convolutions(layers_of(INT8), CONVOLUTIONS, 2)["stem.conv"] == UNKNOWN


def _changed(plan: str, node: str, **kinds: str) -> list[Any]:
    """The layers of a plan with another type of a convolution's inputs or constants."""
    layers = []
    for layer in layers_of(plan):
        if layer.kind == "correlation" and node in layer.nodes:
            for part, kind in kinds.items():
                tensors = tuple(replace(tensor, type=kind) for tensor in getattr(layer, part))
                layer = replace(layer, **{part: tensors})
        layers.append(layer)
    return layers


@pytest.mark.parametrize(
    ("kinds", "type_of_stem"),
    [
        ({"inputs": "float16"}, "float16 with int8 weights"),
        ({"constants": "float16"}, "int8 with float16 weights"),
        ({"inputs": "float16", "constants": "float16"}, "float16"),
        ({"outputs": "int8"}, "int8"),
    ],
)
def test_data_and_weights_both_decide(kinds: dict[str, str], type_of_stem: str) -> None:
    layers = _changed(INT8, "stem.conv", **kinds)
    assert types_of_convolutions(layers, CONVOLUTIONS, 1)["stem.conv"] == type_of_stem


def test_kernels_of_one_convolution_that_differ_are_all_told() -> None:
    layers = [*layers_of(INT8), *_changed(INT8, "stem.conv", inputs="float16", constants="float16")]
    assert types_of_convolutions(layers, CONVOLUTIONS, 1)["stem.conv"] == "float16 and int8"


def test_weights_that_stand_nowhere_prove_nothing() -> None:
    strange = Convolution("stem.conv", (16, 3, 5, 5))
    assert types_of_convolutions(layers_of(INT8), [strange], 1) == {"stem.conv": UNKNOWN}


@pytest.mark.parametrize(("kind", "proved"), [("Int8", "int8"), ("Half", "float16"), ("FP8", "float8")])
def test_types_come_from_the_inspector_too(kind: str, proved: str) -> None:
    entries = [classic_convolution(conv.name, conv.weights, kind) for conv in CONVOLUTIONS]
    layers = layers_from_inspector(inspector_document(*entries))
    assert set(types_of_convolutions(layers, CONVOLUTIONS, 1).values()) == {proved}


def test_the_type_of_the_weights_decides_in_the_inspector_too() -> None:
    entry = classic_convolution("stem.conv", STEM.weights, "Half", Weights={"Type": "Int8", "Count": 432})
    layers = layers_from_inspector(inspector_document(entry))
    assert types_of_convolutions(layers, [STEM], 1) == {"stem.conv": "float16 with int8 weights"}


@pytest.mark.parametrize("name", [MODEL, MODEL_INT8_GPU, MODEL_INT8_RTX])
def test_convolutions_of_a_graph_have_the_shape_of_their_weights(preact_run: RunDirectory, name: str) -> None:
    found = convolutions_of(graph_from_file(preact_run.verified(name)))
    assert sorted(found, key=str) == sorted(CONVOLUTIONS, key=str)


@pytest.mark.parametrize(
    ("precision", "left", "counts", "expected"),
    [
        ("int8", 0, {"int8": 9}, True),
        ("int8", 3, {"int8": 6, "float16": 3}, True),
        ("int8", 3, {"int8": 6, "float32": 3}, True),
        ("int8", 3, {"int8": 5, "float16": 1, "float32": 2}, True),
        ("int8", 3, {"int8": 7, "float16": 2}, False),
        ("int8", 2, {"int8": 6, "float16": 3}, False),
        ("int8", 9, {"float16": 9}, False),
        ("int8", 1, {"int8": 8, "bfloat16": 1}, False),
        ("int8", 0, {"int8": 8, "float8": 1}, False),
        ("int8", 0, {"int8": 8, UNKNOWN: 1}, False),
        ("int8", 1, {"int8": 8, "float16 with int8 weights": 1}, False),
        ("fp8", 1, {"float8": 8, "float16": 1}, True),
        ("fp8", 1, {"float8": 7, "float16": 1, "int8": 1}, False),
        ("fp32", 0, {"float32": 9}, True),
        ("fp32", 0, {"float32": 8, "float16": 1}, False),
        ("fp16", 0, {"float16": 8, "float32": 1}, False),
        ("fp32", 0, {}, False),
    ],
)
def test_convolutions_are_those_of_the_precision_and_as_many_in_float_as_the_card_tells(
    precision: str, left: int, counts: dict[str, int], expected: bool
) -> None:
    card = CARD.with_precision(precision, "gpu", float_convolutions=left)
    kinds = [kind for kind, count in counts.items() for _ in range(count)]
    types = {f"conv{index}": kind for index, kind in enumerate(kinds)}
    assert is_as_asked(types, card) == expected
    if not expected:
        with pytest.raises(CheckFailed, match=f"would not run model in {precision}"):
            require_precision(types, card, "TensorRT", "model")


def test_the_refusal_names_convolutions_and_the_types_they_run_in() -> None:
    types = types_of_convolutions(layers_of(TURING), CONVOLUTIONS, 1)
    card = CARD.with_precision("int8", "gpu")
    with pytest.raises(CheckFailed) as failure:
        require_precision(types, card, "TensorRT for RTX", "model.int8.gpu.onnx")
    assert failure.value.exit_status == 1
    assert failure.value.problem == (
        "TensorRT for RTX would not run model.int8.gpu.onnx in int8: of 9 convolutions 9 run in float16 "
        "(stem.conv, stage1.0.residual.conv1, stage1.0.residual.conv2 and 6 more)"
    )


def test_the_refusal_of_a_plan_without_float_convolutions_names_the_cards_number() -> None:
    card = CARD.with_precision("int8", "gpu", float_convolutions=2)
    words = "of 1 convolutions all run in int8, and its card leaves 2 in float"
    with pytest.raises(CheckFailed, match=words):
        require_precision({"conv": "int8"}, card, "TensorRT", "model.onnx")
