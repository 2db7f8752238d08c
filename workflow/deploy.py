"""Every stage that this machine can do, in order.

from workflow.deploy import deploy
from workflow.options import RunOptions

deployment = deploy(RunOptions(depth=20, variant=Variant.preact))
assert deployment.passed
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from errors import CheckFailed, UserError
from runtimes.engines import ENGINES, EngineSpec
from vocabulary import Device, Precision
from workflow.choice import Session
from workflow.listener import NOBODY, Listener
from workflow.measure import Row, benchmarked, reported, subjects_of, verified
from workflow.options import (
    BuildOptions,
    DeviceOptions,
    LimitOptions,
    QuantizeOptions,
    RedoOptions,
    RunOptions,
    RuntimeOptions,
    TimingOptions,
    TrainingOptions,
    WeightsOptions,
)
from workflow.stages import built, calibrated_as_chosen, exported, refuse_beside_search, searched
from workflow.weights import beginning_session, trained_unless_done

if TYPE_CHECKING:
    from calibration.searching.result import SearchResult
    from reporting.summary import Summary
    from runtimes.subjects import Subject


@dataclass(frozen=True)
class Deployment:
    """What a deployment came to.

    Attributes:
        session: the run it is in.
        summary: a line for each engine and precision.
        rows: the verdicts of this deployment.
        skipped: what this machine cannot do, with the reasons.
        search: what the search came to, if there was one, and `searched_now` whether it ran now.
    """

    session: Session
    summary: "Summary"
    rows: list[Row]
    skipped: list[str]
    search: "SearchResult | None" = None
    searched_now: bool = False

    @property
    def passed(self) -> bool:
        """Whether every engine is within tolerance of the PyTorch original."""
        return all(row["passed"] for row in self.rows)


def deploy(
    run: RunOptions = RunOptions(),
    weights: WeightsOptions = WeightsOptions(),
    training: TrainingOptions = TrainingOptions(),
    quantize: QuantizeOptions = QuantizeOptions(),
    limit: LimitOptions = LimitOptions(),
    build: BuildOptions = BuildOptions(),
    device: DeviceOptions = DeviceOptions(),
    runtime: RuntimeOptions = RuntimeOptions(),
    timing: TimingOptions = TimingOptions(),
    redo: RedoOptions = RedoOptions(),
    listener: Listener = NOBODY,
) -> Deployment:
    """Train, export, calibrate, build, verify, benchmark and report; nothing is printed.

    What is up to date is not done again. What a search chose stays until other options or a new network.

    Raises:
        UserError: options that exclude one another, or a stage that every machine can do cannot be done.
        CheckFailed: an artifact is not what it should be. An engine out of tolerance is a row instead.
    """
    _refuse_contradictions(weights, training, quantize, limit)
    session = beginning_session(run, weights, listener, redo.force)
    if weights.checkpoint is None:
        trained_unless_done(session, training, device.device, weights.seed)
    exported(session)
    search, searched_now = None, False
    if limit.max_drop is not None:
        search, searched_now = searched(session, quantize, limit, runtime)
    else:
        calibrated_as_chosen(session, quantize)
    attempts = _Attempts(session)
    attempts.attempt("build", lambda: built(session, build))
    subjects = _deployable(session, device.device, attempts)
    rows = verified(session, subjects, runtime)
    timed = [subject for subject in subjects if ENGINES[subject.engine].is_timed]
    for refusal in benchmarked(session, timed, runtime, timing).refusals:
        attempts.pass_over(f"benchmark of {refusal.engine} {refusal.precision}", refusal.error)
    summary = reported(session, attempts.skipped)
    return Deployment(session, summary, rows, attempts.skipped, search, searched_now)


@dataclass
class _Attempts:
    """What this machine may lack the parts for; `skipped` collects the reasons."""

    session: Session
    skipped: list[str] = field(default_factory=list)

    def attempt(self, stage: str, work: Callable[[], Any]) -> Any:
        """The result of `work`, or None where a part is missing; a failed check is never passed over."""
        try:
            return work()
        except UserError as error:
            self.pass_over(stage, error)
            return None

    def pass_over(self, stage: str, error: UserError) -> None:
        """Note what cannot be done here; a failed check is raised again."""
        if isinstance(error, CheckFailed):
            raise error
        self.skipped.append(f"{stage}: {error.problem} ({error.fix})")
        self.session.listener.say(stage, f"skipped: {error.problem} ({error.fix})")


def _refuse_contradictions(
    weights: WeightsOptions, training: TrainingOptions, quantize: QuantizeOptions, limit: LimitOptions
) -> None:
    if limit.max_drop is not None:
        refuse_beside_search(quantize)
    if weights.checkpoint is not None and not training.choose_nothing:
        raise UserError(
            "--from takes weights over, and --recipe, --epochs and --peak-rate train others",
            "leave out --from, or the options of training",
        )


def _deployable(session: Session, device: Device | None, attempts: _Attempts) -> "list[Subject]":
    """The engines of a deployment: all that run here, and what TensorRT would get where it does not run."""
    from machine.gpu import gpus
    from runtimes.subjects import precisions_of

    def in_all_precisions(spec: EngineSpec, at: Device) -> "list[Subject]":
        offered = precisions_of(spec.name, spec.device(at))
        return subjects_of(session, spec, [Precision(name) for name in offered], at)

    subjects: list[Subject] = []
    for spec in (spec for spec in ENGINES.values() if spec.by_default):
        has_device = precisions_of(spec.name, device or Device.cpu)
        subjects += in_all_precisions(spec, (device or Device.cpu) if has_device else Device.cpu)
    if gpus():
        trt = ENGINES["trt"]
        of_trt = attempts.attempt(trt.name, lambda: in_all_precisions(trt, Device.cuda))
        return subjects + (of_trt or [])
    attempts.skipped.append(
        "trt: engines are built but not run: no NVIDIA driver or GPU here; their graphs are evaluated "
        "by `reference` instead, and those for TensorRT for RTX by `reference-rtx`, without a latency"
    )
    narrow: list[Precision] = [precision for precision in Precision if precision != Precision.fp32]
    subjects += subjects_of(session, ENGINES["reference"], narrow, Device.cpu)
    return subjects + in_all_precisions(ENGINES["reference-rtx"], Device.cpu)
