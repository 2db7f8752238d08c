"""Time quantized graphs against the float one on this machine, in every CPU runtime, all in turns."""

import math
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from calibration.searching.trials import Candidate, Trials
from progress import Progress, silent
from runtimes.engines import ENGINES
from runtimes.timing import latencies

RUNTIMES = tuple(spec.name for spec in ENGINES.values() if spec.by_default)
BATCHES = (1, 32)
_SECONDS = 0.5


@dataclass(frozen=True)
class Timed:
    """Median milliseconds of a call by batch size; `candidate` is None for the float graph."""

    engine: str
    candidate: Candidate | None
    ms: dict[int, float]

    @property
    def ran(self) -> Candidate:
        """The candidate that the engine ran; see `Candidate.in_engine`."""
        assert self.candidate is not None
        return self.candidate.in_engine(self.engine)

    @property
    def mean_ms(self) -> float:
        """The geometric mean over the batch sizes, in which each batch size counts the same."""
        return math.exp(sum(math.log(ms) for ms in self.ms.values()) / len(self.ms))

    def to_json(self) -> dict[str, float]:
        """Milliseconds by batch size."""
        return {str(batch): ms for batch, ms in self.ms.items()}

    def words(self) -> str:
        """The engine with the latencies, in words."""
        return f"{self.engine} " + "/".join(f"{ms:.2f}" for ms in self.ms.values()) + " ms"


def timed_in_turns(
    trials: Trials,
    candidates: list[Candidate],
    float_graph: Path,
    folder: Path,
    threads: int | None = None,
    allow_saturation: bool = False,
    progress: Progress = silent,
) -> list[Timed]:
    """Time the candidates and the float graph at `BATCHES` in each of `RUNTIMES`.

    Two candidates can stand for one graph: OpenVINO's is never absorbed, so that `absorb` and no
    reparametrization at all make the same. Such a graph is timed once, under the first of the candidates,
    because a second time of the same file would differ by noise and could win by it.

    Args:
        folder: where the candidates' files are written.

    Raises:
        UserError: a runtime does not run a file as it is meant; says why.
    """
    files: dict[tuple[str, Candidate | None], Path] = {(engine, None): float_graph for engine in RUNTIMES}
    for engine in RUNTIMES:
        first = {candidate.in_engine(engine): candidate for candidate in reversed(candidates)}
        for number, (graph, candidate) in enumerate(reversed(first.items())):
            files[engine, candidate] = folder / f"candidate{number}.{engine}.onnx"
            trials.write(graph, files[engine, candidate])
    with ExitStack() as stack:
        opened = {
            (engine, candidate): stack.enter_context(
                ENGINES[engine].runtime()(
                    path, "int8" if candidate else "fp32", threads=threads, allow_saturation=allow_saturation
                )
            )
            for (engine, candidate), path in files.items()
        }
        measured = {batch: latencies(opened, trials.held_out, batch, _SECONDS, progress) for batch in BATCHES}
    return [
        Timed(engine, candidate, {batch: measured[batch][engine, candidate].p50_ms for batch in BATCHES})
        for engine, candidate in opened
    ]
