import json
from dataclasses import replace

import pytest
from recorded_plans import FP16, INT8, layers_of

from runtimes.tensorrt.plan_layers import (
    ITEM_BYTES,
    TYPE_NAMES,
    Layer,
    Tensor,
    document_of_layers,
    kernels_of,
    layers_from_document,
    traffic,
)

IMAGES = Tensor("images", (-1, 3, 4, 4), "float16", "NHWC")
WEIGHTS = Tensor("weights", (8, 3, 3, 3), "int8", "NHWC")
SCALES = Tensor("scales", (8,), "float32", "Linear")
FEATURES = Tensor("features", (-1, 8, 4, 4), "float32", "NHWC")
CONV = Layer("conv", "correlation", 0, (IMAGES,), (WEIGHTS, SCALES), (FEATURES,), "", ("conv",))


def test_bytes_are_those_of_activations_and_constants() -> None:
    assert CONV.bytes_read(1) == 48 * 2 + 216 + 8 * 4
    assert CONV.bytes_read(32) == 32 * 48 * 2 + 216 + 8 * 4
    assert (CONV.bytes_written(1), CONV.bytes_written(32)) == (128 * 4, 32 * 128 * 4)


def test_a_fixed_batch_is_not_multiplied() -> None:
    assert replace(IMAGES, shape=(1, 3, 4, 4)).bytes_at(32) == 96


@pytest.mark.parametrize(("kind", "size"), [("int4", 0.5), ("float8", 1), ("bfloat16", 2), ("int64", 8)])
def test_sizes_of_elements(kind: str, size: float) -> None:
    assert Tensor("x", (2,), kind, "").bytes_at(1) == 2 * size


def test_every_type_that_tensorrt_names_has_a_size() -> None:
    assert set(TYPE_NAMES.values()) == set(ITEM_BYTES)


def test_traffic_adds_up_the_kernels_of_one_profile() -> None:
    wait = replace(CONV, kind="wait")
    layers = [CONV, wait, replace(CONV, profile=1), CONV]
    assert list(kernels_of(layers, 0)) == [CONV, CONV]
    total = traffic(layers, 0, 32)
    assert (total.batch, total.profile, total.kernels) == (32, 0, 2)
    assert total.read_mb == pytest.approx(2 * CONV.bytes_read(32) / 1e6, abs=1e-3)
    assert total.moved_mb == pytest.approx(total.read_mb + total.written_mb)


def test_int8_moves_more_than_fp16_in_the_recorded_plans() -> None:
    """Convolutions of INT8 write float32 there, and kernels of their own turn that into codes again."""
    fp16, int8 = traffic(layers_of(FP16), 1, 32), traffic(layers_of(INT8), 0, 32)
    assert (fp16.kernels, int8.kernels) == (13, 18)
    assert (fp16.moved_mb, int8.moved_mb) == (pytest.approx(16.8, abs=0.1), pytest.approx(30.1, abs=0.1))


@pytest.mark.parametrize("plan", [FP16, INT8])
def test_the_document_gives_the_layers_back(plan: str) -> None:
    layers = layers_of(plan)
    document = json.loads(json.dumps(document_of_layers(layers, [(0, 1), (1, 32)])))
    assert layers_from_document(document) == layers
    for entry, layer in zip(document["layers"], layers, strict=True):
        batch = {0: 1, 1: 32}[layer.profile]
        assert entry["bytes"] == {
            str(batch): {"read": layer.bytes_read(batch), "written": layer.bytes_written(batch)}
        }
