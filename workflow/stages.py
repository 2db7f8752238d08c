"""The stages from weights to engines, each with what has to be there before it: made where it is missing."""

from typing import TYPE_CHECKING, Any

from artifacts.names import ENGINE_FOLDER, MODEL, MODEL_BF16, MODEL_FP16
from artifacts.run_directory import RunDirectory
from errors import UserError
from vocabulary import Precision
from workflow.choice import Session
from workflow.listener import busy
from workflow.options import BuildOptions, CpuOptions, LimitOptions, QuantizeOptions
from workflow.weights import ensure_checkpoint

MAX_OPTIMIZATION_LEVEL = 5

if TYPE_CHECKING:
    from calibration.plan import Plan
    from calibration.searching.result import SearchResult
    from export.graph_from_checkpoint import Export
    from runtimes.tensorrt.engine_card import EngineCard
    from runtimes.tensorrt.plan_options import PlanOptions


def exported(session: Session, seed: int | None = None) -> "Export":
    """Write the float graphs and audit the skip path, from initialised weights where there are no others.

    Args:
        seed: for weights that have to be initialised.
    """
    from export.graph_from_checkpoint import NARROWED, graph_from_checkpoint, narrowed_from_graph

    ensure_checkpoint(session, seed)
    with busy(session.listener, "exporting"):
        export = graph_from_checkpoint(session.run, session.force)
        for precision in NARROWED:
            narrowed_from_graph(session.run, precision, session.force)
    session.listener.say(
        "export",
        f"{_state(export.done)}{export.audit.sentence()}; {export.folded} BN folded, {export.kept} kept; "
        f"{export.error:.1e} from PyTorch",
    )
    return export


def plan_from_options(options: QuantizeOptions) -> "Plan":
    """How the graphs are to be quantized, with the defaults for what the options leave open."""
    from calibration.plan import Plan
    from calibration.ranges.methods import Method
    from calibration.rewriting.reparametrize import passes_from_names

    names = options.reparametrize
    chosen = {
        "passes": None if names is None else passes_from_names(names),
        "stream": options.stream,
        "saturation": options.saturation,
        "correct_bias": options.bias_correction,
    }
    given: dict[str, Any] = {name: value for name, value in chosen.items() if value is not None}
    return Plan(method=Method.from_options(options.method, options.percentile), **given)


def calibrated(session: Session, plan: "Plan") -> None:
    """Collect ranges and write the INT8 and FP8 graphs."""
    from calibration.plan import quantized_from_graph
    from calibration.quantizing.qdq import FILES

    _ensure_exported(session)
    passes, done = quantized_from_graph(
        session.run, session.dataset, plan, session.force, session.listener.progress
    )
    session.listener.say(
        "calibrate",
        f"{_state(done)}{len(session.dataset.calibration)} images, {plan.method}, "
        f"{'+'.join(entry.name for entry in passes) or 'as exported'}: {', '.join(FILES.values())}",
    )
    for entry in passes:
        for name, reason in entry.refused.items():
            session.listener.say(entry.name, f"left {name}: {reason}")


def searched(
    session: Session, options: QuantizeOptions, limit: LimitOptions, runtime: CpuOptions
) -> "tuple[SearchResult, bool]":
    """Search for the best INT8 graphs, write them, and measure the error of each block.

    Returns:
        what the search came to, and whether anything was searched now.

    Raises:
        UserError: an option that names what a search finds.
    """
    from calibration.searching.block_error import block_errors_from_ranges
    from calibration.searching.search import DEFAULT_MAX_DROP, search_from_graph

    refuse_beside_search(options)
    _ensure_exported(session)
    result, done = search_from_graph(
        session.run,
        session.dataset,
        plan_from_options(options),
        DEFAULT_MAX_DROP if limit.max_drop is None else limit.max_drop,
        runtime.threads,
        runtime.allow_saturation,
        session.force,
        session.listener.progress,
    )
    calibrated(session, result.choice)
    block_errors_from_ranges(
        session.run, session.dataset, result.choice, session.force, session.listener.progress
    )
    return result, done


def refuse_beside_search(options: QuantizeOptions) -> None:
    """Raise UserError where an option names what a search would find."""
    searched_for = {
        "--method": options.method,
        "--percentile": options.percentile,
        "--reparametrize": options.reparametrize,
        "--stream": options.stream,
    }
    if given := [name for name, value in searched_for.items() if value is not None]:
        raise UserError(
            f"a search chooses what {', '.join(given)} would set",
            f"leave out {', '.join(given)}, or the search (--search, --max-drop)",
        )


def calibrated_as_chosen(session: Session, options: QuantizeOptions) -> None:
    """Quantize as the options say; where they say nothing, as the last search of this network chose."""
    from calibration.searching.search import chosen_plan

    plan = chosen_plan(session.run) if options.choose_nothing else None
    calibrated(session, plan or plan_from_options(options))


def built(
    session: Session, options: BuildOptions, precisions: list[Precision] | None = None
) -> "dict[str, EngineCard]":
    """Build engines of some precisions; where none is named, of all that the targets compute in.

    Returns:
        the card of each engine, by the engine's name in the run directory.
    """
    from runtimes.tensorrt.engine_card import card_of_engine
    from runtimes.tensorrt.engine_from_onnx import engine_from_onnx
    from runtimes.tensorrt.targets import precisions_for

    chosen = build_options(options)
    wanted = precisions or [Precision(name) for name in precisions_for(options.targets, options.builder)]
    ensure_graphs(session, wanted)
    cards = {}
    for precision in wanted:
        name, done = engine_from_onnx(
            session.run,
            precision,
            options.targets,
            options.builder,
            session.force,
            session.listener.progress,
            chosen,
        )
        cards[name] = card_of_engine(session.run.verified(name))
        session.listener.say("build", f"{_state(done)}{name}, {_words(cards[name])}")
    for name, card in cards.items():
        if sentence := _expectation(session.run, card):
            session.listener.say("build", f"{name}: {sentence}")
    return cards


def _expectation(run: RunDirectory, card: "EngineCard") -> str:
    """Say whether a quantized engine pays, if the fp16 engine of the same targets is in the run."""
    from runtimes.tensorrt.engine_card import card_of_engine, engine_name
    from runtimes.tensorrt.expectation import expectation_from_bytes, moved_by
    from runtimes.tensorrt.package import BUILDERS

    half_name = engine_name(Precision.fp16, BUILDERS[card.builder], card.targets)
    if not card.precision.is_quantized or not run.is_fresh(half_name):
        return ""
    quantized, half = moved_by(card), moved_by(card_of_engine(run.verified(half_name)))
    return expectation_from_bytes(quantized, half).sentence if quantized and half else ""


def build_options(options: BuildOptions) -> "PlanOptions":
    """What decides a plan, with the defaults for what the options leave open.

    Raises:
        UserError: an option's value is of another form.
    """
    from runtimes.tensorrt.plan_options import PlanOptions, bytes_from_text, profiles_from_texts

    level = options.optimization_level
    if level is not None and level > MAX_OPTIMIZATION_LEVEL:
        raise UserError(
            f"--optimization-level must be 0 to {MAX_OPTIMIZATION_LEVEL}, got {level}",
            f"use {MAX_OPTIMIZATION_LEVEL} for the longest search",
        )
    return PlanOptions(
        profiles=profiles_from_texts(options.batches or []),
        tf32=options.tf32,
        optimization_level=level,
        workspace=None if options.workspace is None else bytes_from_text(options.workspace),
        version_compatible=options.version_compatible,
        hardware_compatible=options.hardware_compatible,
        refit=options.refit,
        strip=options.strip,
        timing_cache=options.timing_cache,
    )


def _words(card: "EngineCard") -> str:
    """What is known of an engine, in one line."""
    moved = "".join(
        f", {entry.kernels} kernels move {entry.moved_mb:.1f} MB at batch {entry.batch}"
        for entry in card.traffic
    )
    proof = "" if card.convolutions else f", proof: {card.proof_sentence}"
    return f"{card.convolution_words}, {card.size / 1e6:.1f} MB{moved}{proof}"


def ensure_graphs(session: Session, precisions: list[Precision]) -> None:
    """Export where that is missing or stale, and calibrate likewise where a precision needs codes.

    Graphs are quantized again by the run's own plan, and by the default one where there is none.
    """
    from calibration.plan import is_quantized, plan_in

    _ensure_exported(session)
    if any(precision.is_quantized for precision in precisions) and not is_quantized(session.run):
        calibrated(session, plan_in(session.run) or plan_from_options(QuantizeOptions()))


def ensure_engines(session: Session, precisions: list[Precision]) -> None:
    """Build the engines of some precisions, each where no fresh one is there."""
    run = session.run
    missing = [
        precision
        for precision in precisions
        if not any(run.is_fresh(name) for name in run.recorded(f"{ENGINE_FOLDER}/{precision}."))
    ]
    if missing:
        built(session, BuildOptions(), missing)


def _ensure_exported(session: Session) -> None:
    if not all(session.run.is_fresh(name) for name in (MODEL, MODEL_FP16, MODEL_BF16)):
        exported(session)


def _state(done: bool) -> str:
    return "" if done else "up to date: "
