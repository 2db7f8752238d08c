"""A model repository is what Triton's definition of a configuration takes, and what the graphs say."""

import importlib.util
import shutil
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest
from made_up_bundles import bundle_in, with_runtime, without

from artifacts.run_directory import RunDirectory
from bundling.document import BundleDocument
from bundling.triton import triton_from_bundle
from bundling.writing import write_folder
from data.dataset import Dataset
from errors import UserError

TYPES = {onnx.TensorProto.FLOAT: "TYPE_FP32", onnx.TensorProto.UINT8: "TYPE_UINT8"}
SERVED_GRAPHS = ["ort-fp32", "ort-fp32-u8", "ort-int8-u8-b4", "openvino-int8"]


@pytest.fixture(scope="module")
def triton_config() -> ModuleType:
    """Triton's definition of a configuration, without the gRPC client that tritonclient.grpc begins with."""
    tritonclient = pytest.importorskip("tritonclient", reason="tritonclient is not installed")
    path = Path(tritonclient.__path__[0], "grpc", "model_config_pb2.py")
    spec = importlib.util.spec_from_file_location("model_config_pb2", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def made(
    trained_runs: dict[str, Path], digits: Dataset, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, BundleDocument]:
    folder = tmp_path_factory.mktemp("bundles")
    run = RunDirectory(Path(shutil.copytree(trained_runs["preact"], folder / "run")))
    return folder / "bundle", bundle_in(folder / "bundle", run, digits)


@pytest.fixture
def repository(made: tuple[Path, BundleDocument], tmp_path: Path) -> Path:
    write_folder(triton_from_bundle(*made, "digits").files, tmp_path / "models")
    return tmp_path / "models"


def _parsed(triton_config: ModuleType, model: Path) -> Any:
    from google.protobuf import text_format

    return text_format.Parse((model / "config.pbtxt").read_text(), triton_config.ModelConfig())


def _shape(value: onnx.ValueInfoProto) -> list[int]:
    return [size.dim_value or -1 for size in value.type.tensor_type.shape.dim]


@pytest.mark.parametrize("id", SERVED_GRAPHS)
def test_configuration_says_what_the_graph_says(triton_config: ModuleType, repository: Path, id: str) -> None:
    model = repository / f"digits-{id}"
    config = _parsed(triton_config, model)
    graph = onnx.load(model / "1" / "model.onnx").graph
    assert config.name == model.name
    for described, value in ((config.input, graph.input), (config.output, graph.output)):
        ((entry,), (tensor,)) = (described, value)
        assert entry.name == tensor.name
        assert triton_config.DataType.Name(entry.data_type) == TYPES[tensor.type.tensor_type.elem_type]
        shape = _shape(tensor)
        assert list(entry.dims) == (shape[1:] if config.max_batch_size else shape)
        assert config.max_batch_size == 0 or shape[0] == -1


@pytest.mark.parametrize(
    ("id", "backend", "platform", "largest"),
    [
        ("ort-fp32", "onnxruntime", "onnxruntime_onnx", 128),
        ("ort-fp32-u8", "onnxruntime", "onnxruntime_onnx", 128),
        ("ort-int8-u8-b4", "onnxruntime", "onnxruntime_onnx", 0),
        ("openvino-int8", "openvino", "", 0),
        ("tensorrt-int8", "tensorrt", "tensorrt_plan", 128),
    ],
)
def test_backend_and_batching(
    triton_config: ModuleType, repository: Path, id: str, backend: str, platform: str, largest: int
) -> None:
    config = _parsed(triton_config, repository / f"digits-{id}")
    assert (config.backend, config.platform, config.max_batch_size) == (backend, platform, largest)
    assert config.HasField("dynamic_batching") == (largest > 0)
    (group,) = config.instance_group
    assert group.count == 1
    on_gpu = backend == "tensorrt"
    assert triton_config.ModelInstanceGroup.Kind.Name(group.kind) == ("KIND_GPU" if on_gpu else "KIND_CPU")
    # The second profile of the plan takes up to 128 pictures, and the first takes one.
    assert list(group.profile) == (["1"] if on_gpu else [])
    assert [*config.optimization.execution_accelerators.cpu_execution_accelerator] == []


@pytest.mark.parametrize("id", [*SERVED_GRAPHS, "tensorrt-int8"])
def test_warm_up_is_a_golden_picture_of_the_size_that_the_configuration_says(
    triton_config: ModuleType, repository: Path, made: tuple[Path, BundleDocument], id: str
) -> None:
    config = _parsed(triton_config, repository / f"digits-{id}")
    batches = [warmup.batch_size for warmup in config.model_warmup]
    assert batches == ([1, config.max_batch_size] if config.max_batch_size else [1])
    bundle, _ = made
    for warmup in config.model_warmup:
        ((name, value),) = warmup.inputs.items()
        assert name == config.input[0].name
        assert value.data_type == config.input[0].data_type
        assert all(said in (size, -1) for said, size in zip(config.input[0].dims, value.dims, strict=True))
        content = (repository / config.name / "warmup" / value.input_data_file).read_bytes()
        pixels = triton_config.DataType.Name(value.data_type) == "TYPE_UINT8"
        golden = (bundle / "golden" / ("fitted.u8" if pixels else "input.f32")).read_bytes()
        size = 3072 * (1 if pixels else 4)
        assert len(content) == np.prod(value.dims) * (1 if pixels else 4)
        # A fixed batch is filled with the first golden pictures.
        assert content == golden[: size * (4 if id.endswith("b4") else 1)]


def test_labels_are_the_classes(triton_config: ModuleType, repository: Path, digits: Dataset) -> None:
    for model in filter(Path.is_dir, repository.iterdir()):
        (output,) = _parsed(triton_config, model).output
        assert (model / output.label_filename).read_text().splitlines() == list(digits.classes)


def test_what_triton_cannot_serve_is_left_out_with_the_reason(
    made: tuple[Path, BundleDocument],
) -> None:
    repository = triton_from_bundle(*made, "digits")
    assert list(repository.left_out) == ["openvino-fp32"]
    assert "no setting for float32" in repository.left_out["openvino-fp32"]
    assert set(repository.models.values()) == {path.split("/")[0] for path in repository.files}


def test_nothing_to_serve_is_refused(made: tuple[Path, BundleDocument]) -> None:
    bundle, document = made
    with pytest.raises(UserError, match="no backend for TensorRT for RTX"):
        triton_from_bundle(bundle, with_runtime(document, "tensorrt-rtx"), "digits")


def test_class_of_two_lines_is_refused(made: tuple[Path, BundleDocument]) -> None:
    bundle, document = made
    broken = replace(without(document, "tensorrt-int8"), classes=("one\ntwo", *document.classes[1:]))
    with pytest.raises(UserError, match="does not fit into a line"):
        triton_from_bundle(bundle, broken, "digits")


def test_configuration_of_openvino_says_that_float_operators_may_run_in_bfloat16(repository: Path) -> None:
    assert "bfloat16" in (repository / "digits-openvino-int8" / "config.pbtxt").read_text()


def test_triton_does_not_take_every_text(triton_config: ModuleType, tmp_path: Path) -> None:
    """The tests above would prove nothing if any text were a configuration."""
    from google.protobuf import text_format

    for text in ('name: "a" max_batch: 1', "max_batch_size: many", "input [ { data_type: TYPE_FLOAT } ]"):
        (tmp_path / "config.pbtxt").write_text(text)
        with pytest.raises(text_format.ParseError):
            _parsed(triton_config, tmp_path)
