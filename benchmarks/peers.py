"""What other tools make of a model.onnx in INT8, and the runtimes that run it.

    quantize_static   of ONNX Runtime, each of `STATIC_SETTINGS`      runs in ONNX Runtime
    NNCF              its defaults, and its mixed preset              runs in OpenVINO
    ModelOpt          its defaults, the rest left in float32          runs in ONNX Runtime

Each gets the calibration images that skipfold calibrates on. The runtimes are skipfold's own, so that
threads and options are the same; only the card is that of the model the graph was made from.
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

# Decides which setting is the fastest.
_TIMED_BATCH = 32
_CALIBRATION_BATCH = 20


@dataclass(frozen=True)
class Peer:
    """A graph that another tool quantized.

    Attributes:
        engine: "ort" or "openvino".
        setting: what was asked of the tool, and its version where it is no part of the project's own.
    """

    engine: str
    tool: str
    setting: str
    path: Path


@dataclass(frozen=True)
class StaticSetting:
    """Arguments of `quantize_static`; weights are int8 per channel in all of them."""

    activation: str
    method: str
    reduce_range: bool
    form: str

    def __str__(self) -> str:
        weights = "7-bit weights" if self.reduce_range else "8-bit weights"
        return f"{self.activation[1:].lower()}, {self.method}, {weights}, {self.form}"


# int8 activations as QOperator are left out: ONNX Runtime itself warns of them, at eight times the time.
STATIC_SETTINGS = [
    StaticSetting(activation, method, reduce_range, form)
    for activation, form in (("QUInt8", "QDQ"), ("QUInt8", "QOperator"), ("QInt8", "QDQ"))
    for method, reduce_range in product(("MinMax", "Entropy", "Percentile"), (False, True))
]


def static_graphs(model: Path, images: Batch, folder: Path) -> Iterator[Peer]:
    """Quantize with `quantize_static` in each of `STATIC_SETTINGS`."""
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
            # A batch at a time: its histograms keep every tensor of every image in memory otherwise.
            extra_options={"CalibStridedMinMax": 1},
        )
        yield Peer("ort", "quantize_static", str(setting), path)


def best_and_fastest(
    peers: list[Peer], run: RunDirectory, dataset: Dataset, threads: int, seconds: float
) -> list[Peer]:
    """The graph with the least noise on the calibration images, and the fastest if it is another.

    The test images have no say; noise is against PyTorch, time that of batch 32.
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
    """Quantize with NNCF: presets performance (its default) and mixed, and performance with min-max ranges.

    By default NNCF averages the ranges of the images, which clips: half the dB on trained ResNets.

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
            # Its default is 300.
            subset_size=len(images),
            advanced_parameters=advanced,
        )
        path = folder / f"nncf-{setting.replace(', ', '-').replace(' ', '-')}.xml"
        openvino.save_model(quantized, path, compress_to_fp16=False)
        peers.append(Peer("openvino", "NNCF", f"{nncf.__version__}, {setting}", path))
    return peers


def modelopt_graph(python: str, model: Path, images: Batch, folder: Path) -> Peer:
    """Quantize with ModelOpt in the environment of its own that the interpreter `python` belongs to.

    Raises:
        UserError: no such interpreter, ModelOpt is not installed there, or it refuses the model.
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
        # Its float16 is for GPUs; ONNX Runtime has no such kernels on the CPU.
        "high_precision_dtype": "fp32",
        "output_path": path,
    }
    arguments = [f"--{name}={value}" for name, value in options.items()]
    _output_of([python, "-m", "modelopt.onnx.quantization", *arguments])
    return Peer("ort", "ModelOpt", f"{version}, defaults", path)


def open_peer(peer: Peer, card: GraphCard, threads: int) -> Runtime:
    """The runtime of a peer's graph, to be used as a context manager.

    Args:
        card: of the model that the graph was made from.
    """
    runtime = {"ort": PeerOrtRuntime, "openvino": PeerOpenVinoRuntime}[peer.engine]
    return runtime(peer.path, card, threads)


class _PeerRuntime(Runtime):
    """Takes a graph as it is: without a card of its own, and with whatever was left in float."""

    def __init__(self, path: Path, card: GraphCard, threads: int) -> None:
        super().__init__(path, "int8", "cpu", threads)
        self._source_card = card

    def _checked_card(self) -> GraphCard:
        return self._source_card

    def _left_float(self, evidence: object) -> str:
        return ""


class PeerOrtRuntime(_PeerRuntime, OrtRuntime):
    """A peer's graph in ONNX Runtime."""


class PeerOpenVinoRuntime(_PeerRuntime, OpenVinoRuntime):
    """A peer's graph in OpenVINO."""


class _Batches(CalibrationDataReader):
    """Images in batches; `quantize_static` asks for them range by range."""

    def __init__(self, images: Batch) -> None:
        starts = range(0, len(images), _CALIBRATION_BATCH)
        self._batches = [images[start : start + _CALIBRATION_BATCH] for start in starts]
        self.set_range(0, len(self))

    def __len__(self) -> int:
        return len(self._batches)

    def set_range(self, start_index: int, end_index: int) -> None:
        self._left = iter(self._batches[start_index:end_index])

    def get_next(self) -> dict[str, Batch] | None:
        batch = next(self._left, None)
        return None if batch is None else {INPUT: batch}


def _output_of(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError as error:
        raise UserError(
            f"{command[0]} cannot be run ({error.strerror})", "name a Python interpreter"
        ) from error
    if done.returncode:
        reason = (done.stderr.strip() or "no message").splitlines()[-1]
        raise UserError(
            f"ModelOpt failed under {command[0]} ({reason})",
            "pip install 'nvidia-modelopt[onnx]' in that environment",
        )
    return done.stdout
