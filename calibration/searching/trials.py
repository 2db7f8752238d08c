"""Ways to quantize a network, made in memory and measured; what they share is made once.

Ranges come from the calibration split, as always. Two things are measured:

    signal to noise   The logits are compared with the float graph's on training images outside the
                      calibration split, because ranges fit the images that they were made from best.
    drop              The loss of accuracy is counted in points on the calibration split. These images were
                      held out from training, so the float network does not know them by heart, and ranges
                      are made without looking at labels.

Each graph is run as its runtime runs it, so that what a CPU without VNNI gets wrong counts. A gpu graph is
evaluated operator by operator. Test images choose nothing, and what `verify` measures on them stays a
measurement.
"""

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx_ir as ir

from artifacts.names import MODEL_REPARAMETRIZED_BN
from calibration.quantizing.qdq import write_quantized
from calibration.quantizing.scheme import Scheme
from calibration.ranges.calibration_set import calibration_images, held_out_images
from calibration.ranges.methods import Method
from calibration.ranges.observer import Observer
from calibration.ranges.ranges_from_graph import Calibrated, calibrated, observe
from calibration.rewriting.reparametrize import LIMITS, passes_for, reparametrize
from calibration.searching.block_error import finite, quantized_twin
from calibration.searching.result import MeasuredCandidate
from data.dataset import Dataset
from graphs.card import Batch, GraphCard
from graphs.evaluation import logits_of_graph
from graphs.onnx_file import typed_copy
from graphs.signal_to_noise import Noise
from progress import Progress, silent
from runtimes.openvino_runtime import OpenVinoRuntime
from runtimes.runtime import infer_in_batches
from vocabulary import Flavour

_OPENVINO_BATCH = 50


@dataclass(frozen=True)
class Candidate:
    """One way to quantize the network for one flavour."""

    passes: tuple[str, ...]
    method: Method
    scheme: Scheme

    @property
    def shape(self) -> tuple[object, ...]:
        """What candidates have in common that compute the same operators, on other numbers, equally fast."""
        return "absorb" in self.passes, self.scheme

    def in_engine(self, engine: str) -> "Candidate":
        """The candidate that an engine runs instead: OpenVINO has a flavour and passes of its own."""
        if engine != "openvino" or self.scheme.flavour != Flavour.cpu:
            return self
        passes = passes_for(MODEL_REPARAMETRIZED_BN, self.passes)
        return replace(self, passes=passes, scheme=replace(self.scheme, flavour=Flavour.openvino))


class Trials:
    """Measures candidates on one network; each figure is computed once.

    Args:
        model: the float32 graph as exported.
        card: its card; no drop is measured where it is not trained.

    Raises:
        UserError: the calibration split is not fit to calibrate on, or no training image is outside it.
    """

    def __init__(
        self, model: ir.Model, card: GraphCard, dataset: Dataset, progress: Progress = silent
    ) -> None:
        self.model = model
        self.card = card
        self.calibration = calibration_images(dataset)
        self.held_out = dataset.normalised(held_out_images(dataset))
        self._labels = dataset.calibration.labels
        self._progress = progress
        self._observed: dict[tuple[str, ...], tuple[ir.Model, dict[str, Observer]]] = {}
        self._ranges: dict[tuple[tuple[str, ...], Method], dict[str, Calibrated]] = {}
        self._snr_db: dict[Candidate, float] = {}
        self._drop: dict[Candidate, float] = {}
        self._exact = logits_of_graph(model, self.held_out, "float logits", progress)
        self._hits = self._correct(logits_of_graph(model, self.calibration, "float accuracy", progress))

    def observed(self, passes: tuple[str, ...]) -> tuple[ir.Model, dict[str, Observer]]:
        """The reparametrized graph, and what its tensors hold on the calibration images."""
        if passes not in self._observed:
            limit = LIMITS[self.card.trained]
            model, _ = reparametrize(self.model, passes, self.calibration, limit, self._progress)
            self._observed[passes] = model, observe(model, self.calibration, self._progress)
        return self._observed[passes]

    def ranges(self, candidate: Candidate) -> dict[str, Calibrated]:
        """The ranges of every tensor under the candidate's method."""
        key = candidate.passes, candidate.method
        if key not in self._ranges:
            self._ranges[key] = calibrated(self.observed(candidate.passes)[1], candidate.method)
        return self._ranges[key]

    def snr_db(self, candidate: Candidate) -> float:
        """Signal to noise in dB of the logits of the held-out images."""
        if candidate not in self._snr_db:
            logits = self._logits(candidate, self.held_out)
            self._snr_db[candidate] = Noise().update(self._exact, logits).snr_db
        return self._snr_db[candidate]

    def drop(self, candidate: Candidate) -> float | None:
        """Points of accuracy lost on the calibration split; None for weights that are not trained."""
        if not self.card.trained:
            return None
        if candidate not in self._drop:
            lost = self._hits - self._correct(self._logits(candidate, self.calibration))
            self._drop[candidate] = 100 * lost / len(self._labels)
        return self._drop[candidate]

    def measured(self, candidate: Candidate) -> MeasuredCandidate:
        """The candidate with the figures that are known of it; none is measured for this."""
        scheme = candidate.scheme
        return MeasuredCandidate(
            flavour=scheme.flavour,
            reparametrization="+".join(candidate.passes) or "none",
            method=str(candidate.method),
            stream=scheme.stream,
            float_blocks=scheme.float_blocks,
            snr_db=finite(self.snr_db(candidate)),
            drop=self._drop.get(candidate),
        )

    @property
    def candidates(self) -> list[Candidate]:
        """All candidates of which something was measured."""
        return list(dict.fromkeys([*self._snr_db, *self._drop]))

    def write(self, candidate: Candidate, path: Path) -> None:
        """Write the Q/DQ graph as `calibrate` would."""
        model = typed_copy(self.observed(candidate.passes)[0])
        write_quantized(model, self.card, self.ranges(candidate), candidate.scheme, path)

    def _logits(self, candidate: Candidate, images: Batch) -> Batch:
        what = f"{candidate.scheme.flavour} {candidate.method}"
        if candidate.scheme.flavour == Flavour.openvino:
            return self._logits_in_openvino(candidate, images, what)
        model = quantized_twin(self.observed(candidate.passes)[0], self.ranges(candidate), candidate.scheme)
        return logits_of_graph(model, images, what, self._progress, candidate.scheme.flavour == Flavour.cpu)

    def _logits_in_openvino(self, candidate: Candidate, images: Batch, what: str) -> Batch:
        starts = range(0, len(images), _OPENVINO_BATCH)
        batches = (
            images[start : start + _OPENVINO_BATCH] for start in self._progress(starts, what, len(starts))
        )
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "candidate.onnx")
            self.write(candidate, path)
            # A graph that saturates is measured too: its drop is what keeps the search from choosing it.
            with OpenVinoRuntime(path, "int8", allow_saturation=True) as runtime:
                return infer_in_batches(runtime, batches, _OPENVINO_BATCH)

    def _correct(self, logits: np.ndarray) -> int:
        return int((logits.argmax(1) == self._labels).sum())
