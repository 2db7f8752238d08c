"""Find the best INT8 graph for this machine, and say when INT8 does not pay: search.json.

(1) candidates   Every reparametrization that applies is combined with every method of `METHODS`, for the cpu
                 flavour with an int8 stream; the best method of each reparametrization is tried with an
                 fp32 stream too. Candidates are ranked by signal to noise (`calibration.searching.trials`).
(2) finalists    The best candidate of each shape goes on, because candidates that differ in numbers alone are
                 equally fast.
(3) accuracy     A finalist has a graph for each CPU runtime. It goes on if one of these graphs keeps the drop
                 within the limit; without trained weights, if it is within `MARGIN_DB` of the best.
(4) float blocks If no finalist goes on, the blocks that hurt stay in float in the best finalist
                 (`calibration.searching.float_blocks`).
(5) latency      The graphs that are left are timed in every CPU runtime, in turns with the float graph. Of
                 those that keep the drop within the limit the fastest wins; among graphs whose times differ
                 by less than `SAME_SPEED`, the one with most signal to noise.
(6) gpu          The graph for TensorRT has the same method, passes and float blocks. Because TensorRT is not
                 timed here, its stream is int8 only if that is within `MARGIN_DB` of an fp16 stream.
"""

from collections.abc import Callable, Hashable
from dataclasses import replace

import onnx_ir as ir

from artifacts.json_codec import from_file, to_text
from artifacts.names import MODEL, SEARCH
from artifacts.records import Step
from artifacts.run_directory import RunDirectory
from calibration.plan import Plan
from calibration.quantizing.scheme import Scheme
from calibration.ranges.methods import Method
from calibration.searching.block_error import block_error, finite
from calibration.searching.contest import RUNTIMES, Timed, timed_in_turns
from calibration.searching.float_blocks import Blocks, Hurt, blocks_that_hurt
from calibration.searching.recommendation import SAME_SPEED, recommendation
from calibration.searching.result import Images, LatencyByEngine, SearchResult
from calibration.searching.trials import Candidate, Trials
from data.dataset import Dataset
from graphs.onnx_file import card_of_graph, graph_from_file
from graphs.streams import streams_of
from machine.description import this_machine
from progress import Progress, silent
from runtimes.acceptance import require_sums_that_fit
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


def search_from_graph(
    run: RunDirectory,
    dataset: Dataset,
    base: Plan,
    max_drop: float = DEFAULT_MAX_DROP,
    threads: int | None = None,
    allow_saturation: bool = False,
    force: bool = False,
    progress: Progress = silent,
) -> tuple[SearchResult, bool]:
    """Search from model.onnx and write search.json, unless it is up to date.

    Args:
        base: for saturation and bias correction, which are not searched.
        max_drop: points of accuracy that INT8 may lose.
        threads: CPU threads of a timed call.

    Returns:
        the result, and whether anything was searched now.

    Raises:
        UserError: weights of the full 8 bits on a CPU on which their sums overflow.
        UserError, CheckFailed: as `Trials` and `timed_in_turns` do.
    """
    machine = this_machine().to_json()
    step = Step(
        stage="search",
        options={
            "max_drop": max_drop,
            "saturation": base.saturation,
            "correct_bias": base.correct_bias,
            "threads": threads,
            "dataset": dataset.sha256,
            "machine": machine,
        },
        inputs=(MODEL,),
        outputs=(SEARCH,),
        packages=("onnxruntime", "openvino", "numpy"),
    )
    if run.is_current(step) and not force:
        return _read(run), False
    if not allow_saturation:
        # Refused here, because the first graph is timed only after minutes of work.
        require_sums_that_fit("a search with --saturation full", base.saturation)
    path = run.verified(MODEL)
    model = graph_from_file(path)
    with run.writing(step) as folder:
        trials = Trials(model, card_of_graph(model, path), dataset, progress)

        def time(candidates: list[Candidate]) -> list[Timed]:
            return timed_in_turns(trials, candidates, path, folder, threads, allow_saturation, progress)

        result = replace(search(trials, base, max_drop, time, progress), machine=machine)
        (folder / SEARCH).write_text(to_text(result))
    return result, True


def chosen_plan(run: RunDirectory) -> Plan | None:
    """The plan that the last search chose, if that search was of the network that is there now."""
    result = search_in(run)
    return None if result is None else result.choice


def search_in(run: RunDirectory) -> SearchResult | None:
    """The last search, if there was one and it was of the network that is there now."""
    return _read(run) if run.is_intact(SEARCH) and run.is_fresh(SEARCH) else None


def _read(run: RunDirectory) -> SearchResult:
    return from_file(SearchResult, run.verified(SEARCH), "the result of a search", "search again")


def search(
    trials: Trials,
    base: Plan,
    max_drop: float,
    time: Callable[[list[Candidate]], list[Timed]],
    progress: Progress = silent,
) -> SearchResult:
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

    def latencies(candidate: Candidate | None) -> LatencyByEngine:
        return {
            entry.engine: entry.to_json()
            for entry in timed
            if (entry.ran if entry.candidate else None) == candidate
        }

    candidates = tuple(
        replace(trials.measured(candidate), latency_ms=latencies(candidate))
        for candidate in trials.candidates
    )
    drops = [row.drop for row in candidates if row.flavour != "gpu" and row.drop is not None]
    drop = trials.drop(winner.ran) if accurate else min(drops)
    return SearchResult(
        trained=trials.card.trained,
        max_drop=max_drop,
        images=Images(calibration=len(trials.calibration), held_out=len(trials.held_out)),
        candidates=candidates,
        float_ms=latencies(None),
        gains_db={name: finite(gain) for name, gain in hurt.gains.items()} if hurt else {},
        choice=_plan(base, on_cpu, on_gpu),
        chosen={
            "cpu": trials.measured(on_cpu),
            "openvino": trials.measured(on_cpu.in_engine("openvino")),
            "gpu": trials.measured(on_gpu),
        },
        recommendation=recommendation(winner, drop, best_float, max_drop, bool(accurate)),
    )


def _plan(base: Plan, on_cpu: Candidate, on_gpu: Candidate) -> Plan:
    """The plan that all files of the run are made by."""
    return replace(
        base,
        method=on_cpu.method,
        passes=on_cpu.passes,
        stream=on_gpu.scheme.stream,
        cpu_stream="" if on_cpu.scheme.stream == Stream.int8 else on_cpu.scheme.stream,
        float_blocks=on_cpu.scheme.float_blocks,
    )


def reparametrizations(model: ir.Model) -> list[tuple[str, ...]]:
    """The reparametrizations that change a network: absorbing and centring need a BN that reads a stream."""
    streams = streams_of(model)
    if any(stream.batchnorm(index) for stream in streams for index in range(len(stream.values))):
        return [(), ("absorb",), ("absorb", "equalize"), ("centre", "equalize")]
    return [(), ("equalize",)]


def _finalists(trials: Trials, base: Plan, progress: Progress) -> list[Candidate]:
    """Steps (1) and (2): the best candidate of each shape, the one with most signal to noise first."""
    scheme = Scheme(Flavour.cpu, saturation=base.saturation, correct_bias=base.correct_bias)
    grid = [
        Candidate(passes, method, scheme) for passes in reparametrizations(trials.model) for method in METHODS
    ]
    for candidate in progress(grid, "candidates", len(grid)):
        trials.snr_db(candidate)
    wide = replace(scheme, stream=Stream.fp32)
    others = [replace(best, scheme=wide) for best in _best_of_each(trials, grid, lambda c: c.passes)]
    return _best_of_each(trials, [*grid, *others], lambda candidate: candidate.shape)


def _best_of_each(
    trials: Trials, candidates: list[Candidate], kind: Callable[[Candidate], Hashable]
) -> list[Candidate]:
    """The candidate of each kind that has most signal to noise, the best kind first."""
    best: dict[Hashable, Candidate] = {}
    for candidate in sorted(candidates, key=trials.snr_db, reverse=True):
        best.setdefault(kind(candidate), candidate)
    return list(best.values())


def _eligible(
    trials: Trials, finalists: list[Candidate], max_drop: float, progress: Progress
) -> tuple[list[Candidate], Hurt | None]:
    """Steps (3) and (4): the candidates that are accurate enough, and which blocks hurt if none was."""
    best = finalists[0]
    if not trials.card.trained:
        least = trials.snr_db(best) - MARGIN_DB
        return [candidate for candidate in finalists if trials.snr_db(candidate) >= least], None
    # Every finalist is measured in every runtime, because search.json records all drops.
    drops = {c: [_drop(trials, c.in_engine(engine)) for engine in RUNTIMES] for c in finalists}
    within = [candidate for candidate, by_engine in drops.items() if min(by_engine) <= max_drop]
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
    """Whether a drop is within the limit. Untrained weights have no drop, so every graph keeps to it."""
    return drop is None or drop <= max_drop


def _winner(trials: Trials, timed: list[Timed]) -> Timed:
    """Step (5): the fastest of graphs that are accurate enough, or the most exact of the fastest."""
    fastest = min(entry.mean_ms for entry in timed)
    as_fast = [entry for entry in timed if entry.mean_ms <= fastest * SAME_SPEED]
    # `max` returns the first of equals, so the faster one has to come first.
    as_fast.sort(key=lambda entry: entry.mean_ms)
    return max(as_fast, key=lambda entry: trials.snr_db(entry.ran))


def _gpu_candidate(trials: Trials, on_cpu: Candidate) -> Candidate:
    """Step (6), with the drop of the chosen graph measured."""
    common = replace(on_cpu.scheme, flavour=Flavour.gpu, saturation=Saturation.stem)
    coarse, fine = (
        replace(on_cpu, scheme=replace(common, stream=stream)) for stream in (Stream.int8, Stream.fp16)
    )
    chosen = coarse if trials.snr_db(coarse) >= trials.snr_db(fine) - MARGIN_DB else fine
    trials.drop(chosen)
    return chosen
