"""Find the best INT8 graph for this machine, and say when INT8 does not pay: search.json.

(1) candidates   every reparametrization that applies, with every method of `METHODS`, on the cpu
                 flavour with an int8 stream; the best method of each with an fp32 stream too. They
                 are ranked by signal to noise, see `calibration.searching.trials`.
(2) finalists    the best of each shape: those that differ in numbers alone are as fast
(3) accuracy     each finalist has a graph for each CPU runtime; those of which one keeps the drop within the
                 limit go on; without trained weights, those within `MARGIN_DB` of the best
(4) float blocks if none is left, the blocks that hurt stay in float in the best, see
                 `calibration.searching.float_blocks`
(5) latency      what is left is timed in every CPU runtime in turns with the float graph. Of the graphs that
                 keep the drop within the limit the fastest wins; of those as fast but for `SAME_SPEED`, the
                 one with most signal to noise.
(6) gpu          the same method, passes and float blocks; since TensorRT is not timed here, an int8
                 stream only if it is within `MARGIN_DB` of an fp16 one
"""

import json
import math
from collections.abc import Callable, Hashable
from dataclasses import replace
from typing import Any

import onnx_ir as ir

from artifacts.names import MODEL, SEARCH
from artifacts.records import Step
from artifacts.run_directory import RunDirectory
from calibration.plan import Plan, plan_from_json
from calibration.quantizing.scheme import FORMAT, Scheme
from calibration.ranges.methods import Method
from calibration.searching.block_error import block_error, finite
from calibration.searching.contest import RUNTIMES, Timed, timed_in_turns
from calibration.searching.float_blocks import Blocks, Hurt, blocks_that_hurt
from calibration.searching.recommendation import SAME_SPEED, recommendation
from calibration.searching.trials import Candidate, Trials
from data.dataset import Dataset
from graphs.onnx_file import card_of_graph, graph_from_file
from graphs.streams import streams_of
from machine.description import this_machine
from progress import Progress, silent
from runtimes.runtime import require_sums_that_fit
from vocabulary import Flavour, Saturation, Stream

METHODS = (
    Method("minmax"),
    Method("percentile", 99.999),
    Method("percentile", 99.99),
    Method("entropy"),
    Method("mse"),
)
# Candidates this close count as equally accurate; a bit is 6 dB.
MARGIN_DB = 1.0
DEFAULT_MAX_DROP = 0.1

Document = dict[str, Any]


def search_from_graph(
    run: RunDirectory,
    dataset: Dataset,
    base: Plan,
    max_drop: float = DEFAULT_MAX_DROP,
    threads: int | None = None,
    allow_saturation: bool = False,
    force: bool = False,
    progress: Progress = silent,
) -> tuple[Document, bool]:
    """Search from model.onnx and write search.json, unless it is up to date.

    Args:
        base: for saturation and bias correction, which are not searched.
        max_drop: points of accuracy that INT8 may lose.
        threads: CPU threads of a timed call.

    Returns:
        the document, and whether anything was done.

    Raises:
        UserError: weights of the full 8 bits on a CPU on which their sums overflow.
        UserError, CheckFailed: as `Trials` and `timed_in_turns` do.
    """
    machine = this_machine().to_json()
    step = Step(
        stage="calibrate",
        options={
            "format": FORMAT,
            "max_drop": max_drop,
            "saturation": base.saturation,
            "correct_bias": base.correct_bias,
            "threads": threads,
            "dataset": dataset.sha256,
            "machine": machine,
        },
        inputs=(MODEL,),
        outputs=(SEARCH,),
        packages=("onnxruntime-gpu", "openvino", "numpy"),
    )
    if run.is_current(step) and not force:
        return json.loads((run.path / SEARCH).read_text()), False
    if not allow_saturation:
        # Before minutes of work, not when the first graph is timed.
        require_sums_that_fit("a search with --saturation full", base.saturation)
    path = run.verified(MODEL)
    model = graph_from_file(path)
    with run.writing(step) as folder:
        trials = Trials(model, card_of_graph(model, path), dataset, progress)

        def time(candidates: list[Candidate]) -> list[Timed]:
            return timed_in_turns(trials, candidates, path, folder, threads, allow_saturation, progress)

        document = {"machine": machine, **search(trials, base, max_drop, time, progress)}
        (folder / SEARCH).write_text(json.dumps(document, indent=1) + "\n")
    return document, True


def chosen_plan(run: RunDirectory) -> Plan | None:
    """What the last search chose, if it was of the network that is there now."""
    if not (run.is_intact(SEARCH) and run.is_fresh(SEARCH)):
        return None
    return plan_from_json(json.loads((run.path / SEARCH).read_text())["choice"])


def best_of_each_kind(document: Document) -> list[Document]:
    """Of the candidates that differ in method alone the best, without the trials of float blocks but the
    one that was timed.
    """
    best: dict[Hashable, Document] = {}
    for row in document["candidates"]:
        kind = row["flavour"], row["stream"], row["reparametrization"], *row["float_blocks"]
        tried = row["float_blocks"] and not row["latency_ms"]
        if not tried and (kind not in best or _db(row) > _db(best[kind])):
            best[kind] = row
    return list(best.values())


def search(
    trials: Trials,
    base: Plan,
    max_drop: float,
    time: Callable[[list[Candidate]], list[Timed]],
    progress: Progress = silent,
) -> Document:
    """Everything but the file: steps (1) to (6).

    Args:
        time: measures candidates and the float graph.
    """
    finalists = _finalists(trials, base, progress)
    eligible, hurt = _eligible(trials, finalists, max_drop, progress)
    timed = time(eligible or finalists[:1])
    best_float = min((entry for entry in timed if not entry.candidate), key=lambda entry: entry.mean_ms)
    int8 = [entry for entry in timed if entry.candidate]
    accurate = [entry for entry in int8 if _keeps_to(max_drop, trials.drop(entry.ran))]
    winner = _winner(trials, accurate) if accurate else min(int8, key=lambda entry: _drop(trials, entry.ran))
    on_cpu = winner.candidate
    assert on_cpu is not None
    on_gpu = _gpu_candidate(trials, on_cpu)

    def latencies(candidate: Candidate | None) -> Document:
        return {
            entry.engine: entry.to_json()
            for entry in timed
            if (entry.ran if entry.candidate else None) == candidate
        }

    chosen = {
        "cpu": trials.measured(on_cpu),
        "openvino": trials.measured(on_cpu.in_engine("openvino")),
        "gpu": trials.measured(on_gpu),
    }
    candidates = [
        trials.measured(candidate) | {"latency_ms": latencies(candidate)} for candidate in trials.candidates
    ]
    drops = [row["drop"] for row in candidates if row["flavour"] != "gpu" and row["drop"] is not None]
    drop = trials.drop(winner.ran) if accurate else min(drops)
    return {
        "trained": trials.card.trained,
        "max_drop": max_drop,
        "images": {"calibration": len(trials.calibration), "held_out": len(trials.held_out)},
        "candidates": candidates,
        "float": latencies(None),
        "gains_db": {name: finite(gain) for name, gain in hurt.gains.items()} if hurt else {},
        "choice": _plan(base, on_cpu, on_gpu).to_json(),
        "chosen": chosen,
        "recommendation": recommendation(winner, drop, best_float, max_drop, bool(accurate)).to_json(),
    }


def _plan(base: Plan, on_cpu: Candidate, on_gpu: Candidate) -> Plan:
    """By which all files are made."""
    return replace(
        base,
        method=on_cpu.method,
        passes=on_cpu.passes,
        stream=on_gpu.scheme.stream,
        cpu_stream="" if on_cpu.scheme.stream == Stream.int8 else on_cpu.scheme.stream,
        float_blocks=on_cpu.scheme.float_blocks,
    )


def reparametrizations(model: ir.Model) -> list[tuple[str, ...]]:
    """Those that change a network: absorbing and centring need a BN that reads a stream."""
    streams = streams_of(model)
    if any(stream.batchnorm(index) for stream in streams for index in range(len(stream.values))):
        return [(), ("absorb",), ("absorb", "equalize"), ("centre", "equalize")]
    return [(), ("equalize",)]


def _finalists(trials: Trials, base: Plan, progress: Progress) -> list[Candidate]:
    """(1), (2): the best of each shape, most signal to noise first."""
    scheme = Scheme(Flavour.cpu, saturation=base.saturation, correct_bias=base.correct_bias)
    grid = [
        Candidate(passes, method, scheme) for passes in reparametrizations(trials.model) for method in METHODS
    ]
    for candidate in progress(grid, "candidates", len(grid)):
        trials.snr_db(candidate)
    wide = replace(scheme, stream=Stream.fp32)
    others = [replace(best, scheme=wide) for best in _best_of_each(trials, grid, lambda c: c.passes)]
    return _best_of_each(trials, [*grid, *others], lambda candidate: candidate.shape)


def _db(row: Document) -> float:
    """Of a row in JSON, where no error is no number."""
    return math.inf if row["snr_db"] is None else row["snr_db"]


def _best_of_each(
    trials: Trials, candidates: list[Candidate], kind: Callable[[Candidate], Hashable]
) -> list[Candidate]:
    """Of each kind the one with most signal to noise, the best first."""
    found: dict[Hashable, Candidate] = {}
    for candidate in sorted(candidates, key=trials.snr_db, reverse=True):
        found.setdefault(kind(candidate), candidate)
    return list(found.values())


def _eligible(
    trials: Trials, finalists: list[Candidate], max_drop: float, progress: Progress
) -> tuple[list[Candidate], Hurt | None]:
    """(3), (4): the candidates that are accurate enough, and which blocks hurt if none was at first."""
    best = finalists[0]
    if not trials.card.trained:
        least = trials.snr_db(best) - MARGIN_DB
        return [candidate for candidate in finalists if trials.snr_db(candidate) >= least], None
    # All of them are measured, for the record.
    drops = {c: [_drop(trials, c.in_engine(engine)) for engine in RUNTIMES] for c in finalists}
    within = [candidate for candidate, found in drops.items() if min(found) <= max_drop]
    if within:
        return within, None

    def leaving(blocks: Blocks) -> Candidate:
        return replace(best, scheme=replace(best.scheme, float_blocks=blocks))

    model, _ = trials.observed(best.passes)
    errors = block_error(model, trials.ranges(best), best.scheme, trials.held_out, progress)
    hurt = blocks_that_hurt(
        errors.blocks,
        lambda blocks: trials.snr_db(leaving(blocks)),
        lambda blocks: _drop(trials, leaving(blocks)),
        max_drop,
    )
    return ([] if hurt.blocks is None else [leaving(hurt.blocks)]), hurt


def _drop(trials: Trials, candidate: Candidate) -> float:
    drop = trials.drop(candidate)
    assert drop is not None
    return drop


def _keeps_to(max_drop: float, drop: float | None) -> bool:
    """Whether a drop is within the limit; without trained weights there is none to hold to it."""
    return drop is None or drop <= max_drop


def _winner(trials: Trials, timed: list[Timed]) -> Timed:
    """(5) of graphs that are accurate enough."""
    fastest = min(entry.mean_ms for entry in timed)
    as_fast = [entry for entry in timed if entry.mean_ms <= fastest * SAME_SPEED]
    # The first of equals: the faster one.
    as_fast.sort(key=lambda entry: entry.mean_ms)
    return max(as_fast, key=lambda entry: trials.snr_db(entry.ran))


def _gpu_candidate(trials: Trials, on_cpu: Candidate) -> Candidate:
    """(6), with its drop measured."""
    common = replace(on_cpu.scheme, flavour=Flavour.gpu, saturation=Saturation.stem)
    coarse, fine = (
        replace(on_cpu, scheme=replace(common, stream=stream)) for stream in (Stream.int8, Stream.fp16)
    )
    chosen = coarse if trials.snr_db(coarse) >= trials.snr_db(fine) - MARGIN_DB else fine
    trials.drop(chosen)
    return chosen
