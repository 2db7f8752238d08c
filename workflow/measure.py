"""What is measured of a run: which engines, whether they still are the network, and how fast they are."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from artifacts.names import CHECKPOINT, REPORT
from errors import UserError
from runtimes.engines import ENGINES, EngineSpec
from vocabulary import Device, Precision
from workflow.choice import Session
from workflow.listener import busy
from workflow.options import RuntimeOptions, SubjectOptions, TimingOptions
from workflow.stages import ensure_engines, ensure_graphs
from workflow.weights import ensure_checkpoint

if TYPE_CHECKING:
    from reporting.summary import Summary
    from runtimes.subjects import Subject
    from verification.latency import Benchmark

DEFAULT_SECONDS = 1.0
Row = dict[str, Any]


def subjects_from_options(
    session: Session, options: SubjectOptions, device: Device | None = None
) -> "list[Subject]":
    """The engines and precisions that the options name, with the artifacts made that are missing.

    Without a named engine these are the ones that run by default, each in the named precisions that it
    has. An engine that is named must have every precision that is named.

    Raises:
        UserError: nothing is left, or an engine does not compute in a precision on that device.
    """
    specs = [ENGINES[name] for name in options.engine or []]
    wanted = specs or [spec for spec in ENGINES.values() if spec.by_default]
    subjects = []
    for spec in wanted:
        offered = offered_precisions(spec, device)
        precisions = options.precision or offered
        if not specs:
            precisions = [precision for precision in precisions if precision in offered]
        subjects += subjects_of(session, spec, precisions, device)
    if not subjects:
        raise UserError("no engine runs that precision here", "see `python cli.py doctor`")
    return subjects


def subjects_of(
    session: Session, spec: EngineSpec, precisions: list[Precision], device: Device | None = None
) -> "list[Subject]":
    """One engine in some precisions, with the artifacts made that are missing."""
    from runtimes.subjects import subject_in

    if not spec.opens_weights:
        ensure_graphs(session, precisions)
    if spec.opens_plans:
        ensure_engines(session, precisions)
    if CHECKPOINT not in session.run:
        ensure_checkpoint(session)
    return [subject_in(session.run, spec.name, precision, device or Device.cpu) for precision in precisions]


def offered_precisions(spec: EngineSpec, device: Device | None) -> list[Precision]:
    """The precisions that an engine computes in on this machine."""
    from runtimes.subjects import precisions_of

    offered = precisions_of(spec.name, spec.device(device or Device.cpu))
    return [Precision(name) for name in offered]


def verified(session: Session, subjects: "list[Subject]", runtime: RuntimeOptions) -> list[Row]:
    """Compare engines with the PyTorch original on the whole test split.

    Returns:
        the subjects' rows of parity.json.
    """
    from reporting.summary import saturation_words
    from verification.verify import verdicts_from_artifacts

    rows, done = verdicts_from_artifacts(
        session.run,
        session.dataset,
        subjects,
        runtime.threads,
        session.force,
        session.listener.progress,
        runtime.allow_saturation,
        runtime.cuda_graphs,
    )
    passed = sum(row["passed"] for row in rows)
    state = "" if done else "up to date: "
    session.listener.say("verify", f"{state}{passed} of {len(rows)} within tolerance")
    for artifact, saturation in {row["artifact"]: row.get("saturation") for row in rows}.items():
        if saturation is not None:
            session.listener.say("saturation", f"{artifact}: {saturation_words(saturation)}")
    return rows


def benchmarked(
    session: Session,
    subjects: "list[Subject]",
    runtime: RuntimeOptions,
    timing: TimingOptions,
    batches: Sequence[int] | None = None,
) -> "Benchmark":
    """Time engines in turns with PyTorch, and draw latency.svg from all that is known of the run.

    Raises:
        UserError: none of the engines runs here.
    """
    from reporting.latency_plot import latency_plot_from_benchmark
    from verification.latency import BATCH_SIZES, benchmark_from_artifacts

    benchmark = benchmark_from_artifacts(
        session.run,
        session.dataset,
        subjects,
        runtime.threads,
        DEFAULT_SECONDS if timing.seconds is None else timing.seconds,
        session.force,
        session.listener.progress,
        runtime.allow_saturation,
        batches or BATCH_SIZES,
        runtime.cuda_graphs,
    )
    latency_plot_from_benchmark(session.run)
    state = "" if benchmark.done else "up to date: "
    session.listener.say("benchmark", f"{state}{len(benchmark.rows)} rows, in turns with PyTorch")
    return benchmark


def reported(session: Session, skipped: list[str]) -> "Summary":
    """Write report.html.

    Args:
        skipped: what could not be done here, a line each with the reason.
    """
    from reporting.report import report_from_results

    with busy(session.listener, "writing the report"):
        summary = report_from_results(session.run, skipped)
    session.listener.say("report", str(session.run.path / REPORT))
    return summary
