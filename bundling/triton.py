"""A model repository for NVIDIA Triton Inference Server, made of the artifacts of a bundle.

    <name>-<artifact id>/config.pbtxt     what Triton is told of the model
    <name>-<artifact id>/labels.txt       the classes, a line each
    <name>-<artifact id>/warmup/images    golden pictures as the model takes them, raw
    <name>-<artifact id>/1/model.onnx     the model, or model.plan
    files.json                            every file with its sha256; Triton reads folders only

What Triton's backends need, and what follows from it (model_config.proto and openvino_backend):

onnxruntime   takes the batch in front of `dims` where max_batch_size is over 0, so that the server can put
              requests together.
tensorrt      does the same; `profile` chooses the optimization profile of the plan with the largest batch.
openvino      fixes the batch of a model at max_batch_size, and refuses or pads every smaller one. So
              max_batch_size is 0, the batch stands in `dims`, and the server puts nothing together. It
              has no setting for float32, and OpenVINO computes float operators in bfloat16 on CPUs that have
              bfloat16. So float32 graphs are left to onnxruntime, which reads the same file, and a comment in
              the configuration of an INT8 graph says what that means there.

No backend of Triton opens plans of TensorRT for RTX.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bundling.document import ArtifactEntry, BundleDocument
from errors import UserError
from runtimes.tensorrt.engine_card import card_of_engine
from vocabulary import Precision

# The largest batch of a plan's default profile.
LARGEST_BATCH = 128
_BACKENDS = {"ort": "onnxruntime", "openvino": "openvino", "tensorrt": "tensorrt"}
_PLATFORMS = {"ort": "onnxruntime_onnx", "tensorrt": "tensorrt_plan"}
_TYPES = {"float32": "TYPE_FP32", "uint8": "TYPE_UINT8"}
_FOR_OPENVINO = """\
# OpenVINO computes the float operators of this graph in bfloat16 on CPUs that have bfloat16, because Triton's
# backend has no setting for float32. The verdict in the bundle holds for float32.
"""


@dataclass(frozen=True)
class Repository:
    """A model repository in memory.

    Attributes:
        files: the content of every file, by the path in the repository.
        models: the names of the models, by the id of the artifact.
        left_out: artifacts that Triton cannot serve, by id, each with the reason.
    """

    files: dict[str, bytes]
    models: dict[str, str]
    left_out: dict[str, str]


def triton_from_bundle(bundle: Path, document: BundleDocument, name: str) -> Repository:
    """Return the model repository of a bundle.

    Args:
        bundle: the folder of the bundle, whose files have been checked.
        document: the bundle's bundle.json.
        name: what the names of all models begin with.

    Raises:
        UserError: see `served_artifacts`.
    """
    served, left_out = served_artifacts(document)
    models = {entry.id: f"{name}-{entry.id}" for entry in served}
    files = {
        f"{models[entry.id]}/{path}": content
        for entry in served
        for path, content in _files_of_model(bundle, document, entry, models[entry.id]).items()
    }
    return Repository(files, models, left_out)


def served_artifacts(document: BundleDocument) -> tuple[list[ArtifactEntry], dict[str, str]]:
    """Return the artifacts that Triton can serve, and by id why each of the others is left out.

    Raises:
        UserError: a class has a line break in its name, so that it cannot stand in labels.txt; or Triton can
            serve none of the artifacts.
    """
    if broken := [label for label in document.classes if len(label.splitlines()) > 1]:
        raise UserError(f"the class {broken[0]!r} does not fit into a line of labels.txt", "rename the class")
    left_out = {entry.id: reason for entry in document.artifacts if (reason := _unserved(entry))}
    served = [entry for entry in document.artifacts if entry.id not in left_out]
    if not served:
        reasons = "; ".join(f"{id}: {reason}" for id, reason in left_out.items())
        raise UserError(f"Triton can serve no artifact of this bundle ({reasons})", "bundle --engine ort")
    return served, left_out


def _unserved(artifact: ArtifactEntry) -> str:
    """Return why Triton cannot serve an artifact; empty if Triton can."""
    if artifact.runtime.name not in _BACKENDS:
        return "Triton has no backend for TensorRT for RTX"
    if artifact.runtime.name == "openvino" and artifact.precision == Precision.fp32:
        return "Triton's OpenVINO backend has no setting for float32; ONNX Runtime serves the same graph"
    return ""


def _files_of_model(
    bundle: Path, document: BundleDocument, artifact: ArtifactEntry, name: str
) -> dict[str, bytes]:
    file = bundle / artifact.file
    plan = file if artifact.format == "tensorrt plan" else None
    configuration = {**_configuration(artifact, name), "instance_group": [_instances(plan)]}
    comment = _FOR_OPENVINO if artifact.runtime.name == "openvino" else ""
    return {
        "config.pbtxt": (comment + _text(configuration)).encode(),
        "labels.txt": "".join(f"{label}\n" for label in document.classes).encode(),
        f"warmup/{artifact.input.name}": _golden_pictures(bundle, document, artifact),
        f"1/{'model.plan' if plan else 'model.onnx'}": file.read_bytes(),
    }


def _golden_pictures(bundle: Path, document: BundleDocument, artifact: ArtifactEntry) -> bytes:
    """Return one golden picture as an artifact takes it, or as many as its fixed batch has."""
    golden = document.golden
    file, dtype = (golden.fitted, "u1") if artifact.input.dtype == "uint8" else (golden.input, "<f4")
    pictures = np.fromfile(bundle / file, np.dtype(dtype)).reshape(golden.count, -1)
    return np.resize(pictures, (artifact.input.batch.min, pictures.shape[1])).tobytes()


class _Word(str):
    """A name of an enumeration, which stands in the text without quotation marks."""


def _configuration(artifact: ArtifactEntry, name: str) -> dict[str, Any]:
    """Return the fields of a ModelConfig but the instances, in the order of the text."""
    largest = _batch_of_server(artifact)
    fields: dict[str, Any] = {
        "name": name,
        "platform": _PLATFORMS.get(artifact.runtime.name),
        "backend": _BACKENDS[artifact.runtime.name],
        "default_model_filename": "model.onnx" if artifact.format == "onnx" else None,
        "max_batch_size": largest,
        "input": [_tensor(artifact.input.name, artifact.input.dtype, _dims(artifact.input.shape, largest))],
        "output": [
            _tensor(artifact.output.name, artifact.output.dtype, _dims(artifact.output.shape, largest))
            | {"label_filename": "labels.txt"}
        ],
        "dynamic_batching": {} if largest else None,
        "model_warmup": [_warmup(artifact, largest, size) for size in dict.fromkeys((1, largest or 1))],
    }
    return {key: value for key, value in fields.items() if value is not None}


def _batch_of_server(artifact: ArtifactEntry) -> int:
    """Return the largest batch that the server puts together; 0 where the server puts nothing together."""
    batch = artifact.input.batch
    if artifact.runtime.name == "openvino" or batch.min == batch.max:
        return 0
    return min(batch.max or LARGEST_BATCH, LARGEST_BATCH)


def _dims(shape: Sequence[str | int], largest: int) -> list[int]:
    """Return the sizes of a tensor, without the batch where the server puts batches together."""
    sizes = [-1 if isinstance(size, str) else size for size in shape]
    return sizes[1:] if largest else sizes


def _tensor(name: str, dtype: str, dims: list[int]) -> dict[str, Any]:
    return {"name": name, "data_type": _Word(_TYPES[dtype]), "dims": dims}


def _warmup(artifact: ArtifactEntry, largest: int, size: int) -> dict[str, Any]:
    """Return a request of `size` pictures, for which the server repeats the picture in the file."""
    batch = artifact.input.batch.min
    shape = [batch if isinstance(size, str) else size for size in artifact.input.shape]
    value = {
        "data_type": _Word(_TYPES[artifact.input.dtype]),
        "dims": _dims(shape, largest),
        "input_data_file": artifact.input.name,
    }
    inputs = {"key": artifact.input.name, "value": value}
    return {"name": f"golden picture, batch of {size}", "batch_size": size, "inputs": inputs}


def _instances(plan: Path | None) -> dict[str, Any]:
    """Return one instance on the CPU, or one on each GPU with the plan's profile of the largest batch."""
    if plan is None:
        return {"count": 1, "kind": _Word("KIND_CPU")}
    profiles = card_of_engine(plan).batches
    largest = max(range(len(profiles)), key=lambda index: profiles[index].largest)
    return {"count": 1, "kind": _Word("KIND_GPU"), "profile": [str(largest)]}


def _text(fields: Mapping[str, Any], indent: str = "") -> str:
    """Return fields in the text format of protocol buffers; a list of messages is a repeated field."""
    return "".join(_field(name, value, indent) for name, value in fields.items())


def _field(name: str, value: Any, indent: str) -> str:
    if isinstance(value, Mapping):
        inside = _text(value, indent + "  ")
        return f"{indent}{name} {{\n{inside}{indent}}}\n" if inside else f"{indent}{name} {{ }}\n"
    if isinstance(value, list) and value and isinstance(value[0], Mapping):
        return "".join(_field(name, entry, indent) for entry in value)
    return f"{indent}{name}: {_scalar(value)}\n"


def _scalar(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_scalar, value))}]"
    if isinstance(value, str) and not isinstance(value, _Word):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        return f'"{escaped}"'
    return str(value)
