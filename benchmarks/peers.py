"""INT8 graphs that other tools make of a model.onnx, and the runtimes that execute these graphs.

    quantize_static   each of `STATIC_SETTINGS`                           runs in ONNX Runtime
    NNCF              presets performance and mixed, and min-max ranges   runs in OpenVINO
    ModelOpt          the defaults, and float32 for all else              runs in ONNX Runtime

Every tool gets the images that skipfold calibrates on. The graphs run in the runtimes of skipfold, so that
threads and options are the same. These graphs have no card, so that the runtimes get the card of the
model.onnx.
"""

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

from artifacts.names import MODEL
from artifacts.run_directory import RunDirectory
from data.dataset import Dataset
from errors import UserError
from graphs.card import INPUT, Batch, GraphCard
from graphs.onnx_file import card_from_file
from runtimes.openvino_runtime import OpenVinoRuntime
from runtimes.ort_runtime import OrtRuntime
from runtimes.runtime import Runtime
from runtimes.subjects import open_subject, subject_in
from runtimes.timing import latencies
from verification.compare import compare, logits_of_split

# The fastest setting is the fastest one at this batch.
_TIMED_BATCH = 32
_CALIBRATION_BATCH = 20


@dataclass(frozen=True)
class Peer:
    """A graph that another tool quantized.

    Attributes:
        engine: "ort" or "openvino".
        setting: the options of the tool, and the version of a tool that skipfold does not depend on.
    """

    engine: str
    tool: str
    setting: str
    path: Path


@dataclass(frozen=True)
class StaticSetting:
    """The arguments of `quantize_static` that differ; weights are int8 per channel in every setting."""

    activation: str
    method: str
    reduce_range: bool
    form: str

    def __str__(self) -> str:
        weights = "7-bit weights" if self.reduce_range else "8-bit weights"
        return f"{self.activation[1:].lower()}, {self.method}, {weights}, {self.form}"


# int8 activations as QOperator are left out, because ONNX Runtime warns against them and takes eight times as
# long.
STATIC_SETTINGS = [
    StaticSetting(activation, method, reduce_range, form)
    for activation, form in (("QUInt8", "QDQ"), ("QUInt8", "QOperator"), ("QInt8", "QDQ"))
    for method, reduce_range in product(("MinMax", "Entropy", "Percentile"), (False, True))
]


def static_graphs(model: Path, images: Batch, folder: Path) -> Iterator[Peer]:
    """Yield the graphs that `quantize_static` makes with each of `STATIC_SETTINGS`."""
    prepared = folder / "prepared.onnx"
    quant_pre_process(model, prepared)
    for number, setting in enumerate(STATIC_SETTINGS):
        path = folder / f"static-{number}.onnx"
        quantize_static(
            prepared,
            path,
            _Batches(images),
            quant_format=QuantFormat[setting.form],
            per_channel=True,
            reduce_range=setting.reduce_range,
            activation_type=QuantType[setting.activation],
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod[setting.method],
            # Ranges depend on the method alone, and take nearly all of the time.
            calibration_cache_path=folder / f"{setting.method}.json",
            # Ranges are collected one batch at a time, because the histograms would otherwise keep every
            # tensor of every image in memory.
            extra_options={"CalibStridedMinMax": 1},
        )
        yield Peer("ort", "quantize_static", str(setting), path)


def best_and_fastest(
    peers: list[Peer], run: RunDirectory, dataset: Dataset, threads: int, seconds: float
) -> list[Peer]:
    """Return the graph with the least noise on the calibration images, and the fastest if that is another
    graph.

    PyTorch is the reference of the noise, and the times are those of a batch of 32. Test images are not used.
    """
    split, card = dataset.calibration, card_from_file(run.verified(MODEL))
    with open_subject(run, subject_in(run, "torch", "fp32"), threads) as runtime:
        original = logits_of_split(runtime, dataset, split, "original")
    with ExitStack() as stack:
        opened = {peer: stack.enter_context(open_peer(peer, card, threads)) for peer in peers}
        snr = {
            peer: compare(original, logits_of_split(runtime, dataset, split, peer.tool), split.labels).snr_db
            for peer, runtime in opened.items()
        }
        times = latencies(opened, dataset.normalised(split.images[:_TIMED_BATCH]), _TIMED_BATCH, seconds)
    best = max(peers, key=lambda peer: snr[peer])
    fastest = min(peers, key=lambda peer: times[peer].p50_ms)
    for peer in peers:
        print(f"{peer.tool}, {peer.setting}: {snr[peer]:.1f} dB, {times[peer].p50_ms:.2f} ms")
    if best == fastest:
        return [replace(best, setting=f"best and fastest: {best.setting}")]
    return [
        replace(best, setting=f"best: {best.setting}"),
        replace(fastest, setting=f"fastest: {fastest.setting}"),
    ]


def nncf_graphs(model: Path, images: Batch, folder: Path) -> list[Peer]:
    """Return the graphs of NNCF: presets performance (the default) and mixed, and performance with min-max
    ranges.

    By default NNCF averages the ranges of the images, which clips values and halves the dB on trained
    ResNets.

    Raises:
        ImportError: NNCF is not installed.
    """
    import nncf
    import openvino
    from nncf.quantization.range_estimator import RangeEstimatorParametersSet

    whole_range = nncf.AdvancedQuantizationParameters(
        activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX
    )
    peers = []
    for preset, advanced in (("performance", None), ("mixed", None), ("performance", whole_range)):
        setting = f"preset {preset}" + (", min-max" if advanced else "")
        quantized = nncf.quantize(
            openvino.Core().read_model(model),
            nncf.Dataset(list(images[:, None])),
            preset=nncf.QuantizationPreset(preset),
            # NNCF uses 300 images by default.
            subset_size=len(images),
            advanced_parameters=advanced,
        )
        path = folder / f"nncf-{setting.replace(', ', '-').replace(' ', '-')}.xml"
        openvino.save_model(quantized, path, compress_to_fp16=False)
        peers.append(Peer("openvino", "NNCF", f"{nncf.__version__}, {setting}", path))
    return peers


def modelopt_graph(python: str, model: Path, images: Batch, folder: Path) -> Peer:
    """Return the graph of ModelOpt, which runs in the environment of the interpreter `python`.

    Raises:
        UserError: there is no such interpreter, ModelOpt is not installed in that environment, or ModelOpt
            refuses the model.
    """
    version = _output_of(
        [python, "-c", "from importlib import metadata; print(metadata.version('nvidia-modelopt'))"]
    ).strip()
    data, path = folder / "calibration.npy", folder / "modelopt.onnx"
    np.save(data, images)
    shape = "x".join(map(str, (_CALIBRATION_BATCH, *images.shape[1:])))
    options = {
        "onnx_path": model,
        "calibration_data_path": data,
        "calibration_shapes": f"{INPUT}:{shape}",
        "calibration_eps": "cpu",
        # The default float16 is for GPUs; ONNX Runtime has no float16 kernels on the CPU.
        "high_precision_dtype": "fp32",
        "output_path": path,
    }
    arguments = [f"--{name}={value}" for name, value in options.items()]
    _output_of([python, "-m", "modelopt.onnx.quantization", *arguments])
    return Peer("ort", "ModelOpt", f"{version}, defaults", path)


def open_peer(peer: Peer, card: GraphCard, threads: int) -> Runtime:
    """Return the runtime of a peer's graph, which opens when the caller enters it as a context manager.

    Args:
        card: the card of the model.onnx that the graph was made from.
    """
    runtime = {"ort": PeerOrtRuntime, "openvino": PeerOpenVinoRuntime}[peer.engine]
    return runtime(peer.path, card, threads)


class _PeerRuntime(Runtime):
    """A runtime for a graph without a card, in which any convolutions may be left in float."""

    def __init__(self, path: Path, card: GraphCard, threads: int) -> None:
        super().__init__(path, "int8", "cpu", threads)
        self._source_card = card

    def _checked_card(self) -> GraphCard:
        return self._source_card

    def _left_float(self, evidence: object) -> str:
        return ""


class PeerOrtRuntime(_PeerRuntime, OrtRuntime):
    """The graph of a peer in ONNX Runtime."""


class PeerOpenVinoRuntime(_PeerRuntime, OpenVinoRuntime):
    """The graph of a peer in OpenVINO."""


class _Batches(CalibrationDataReader):
    """The calibration images in batches, of which `quantize_static` asks for one range after another."""

    def __init__(self, images: Batch) -> None:
        starts = range(0, len(images), _CALIBRATION_BATCH)
        self._batches = [images[start : start + _CALIBRATION_BATCH] for start in starts]
        self.set_range(0, len(self))

    def __len__(self) -> int:
        return len(self._batches)

    def set_range(self, start_index: int, end_index: int) -> None:
        self._remaining = iter(self._batches[start_index:end_index])

    def get_next(self) -> dict[str, Batch] | None:
        batch = next(self._remaining, None)
        return None if batch is None else {INPUT: batch}


def _output_of(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError as error:
        raise UserError(
            f"--modelopt {command[0]} cannot be run ({error.strerror})", "name a Python interpreter"
        ) from error
    if done.returncode:
        reason = (done.stderr.strip() or "no message").splitlines()[-1]
        raise UserError(
            f"ModelOpt failed under {command[0]} ({reason})",
            "pip install 'nvidia-modelopt[onnx]' in that environment",
        )
    return done.stdout
