"""Engines that are to be timed, and what a benchmark of them comes to.

- Without `--engine`, these are the engines that run by default, and PyTorch in 16 bits where the device
  computes in 16 bits. torch.compile takes seconds to minutes for each batch size and has to be asked for.
- `--engine NAME` is one engine in the named precisions, or in all that it offers here.
- `--engine all` is every engine in every precision on the device that is named, or on the CPU and on CUDA.

An engine that cannot be run is a row with the reason and keeps no other from being measured. The exit status
is 1 if a check failed, or if --compare found a regression or an engine that ran before and does not now. The
exit status is 2 if an engine that was given by its name did not run, and 0 if one of `all` or of the default
engines did not, since nobody has asked for just that one. If nothing can be run, the command ends with the
error of the first engine.
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from errors import UserError
from runtimes.engines import ENGINES, ORIGINAL, TIMED, EngineSpec
from vocabulary import Device, Precision
from workflow.benchmark_file import (
    Document,
    benchmark_from_file,
    document_of,
    require_place_for,
    write_document,
)
from workflow.choice import Session
from workflow.measure import Row, benchmarked, offered_precisions, subjects_of
from workflow.options import EVERY_ENGINE, BenchmarkOptions, RuntimeOptions, TimedSubjectOptions

if TYPE_CHECKING:
    from runtimes.subjects import Subject
    from verification.layer_profile import LayerProfile
    from verification.refusal import Refusal
    from verification.regressions import Changes

_Who = tuple[str, str, str]


@dataclass(frozen=True)
class Candidate:
    """An engine in one precision on one device, which may or may not run here.

    Attributes:
        named: whether the user named the engine, so that the command fails if the engine does not run.
    """

    spec: EngineSpec
    precision: Precision
    device: Device
    named: bool = False

    @property
    def who(self) -> _Who:
        """What tells this candidate from every other one."""
        return self.spec.name, str(self.precision), str(self.device)


@dataclass(frozen=True)
class Outcome:
    """What a benchmark came to.

    Attributes:
        rows: what was measured.
        refusals: what was not, with the reasons.
        named: engine, precision and device of those that the user named.
        changes: what has changed since an earlier benchmark, if there was one to compare with.
        profiles: the layers of each engine, if they were asked for.
        document: all of it, for `--json` and `--save`.
    """

    rows: list[Row]
    refusals: "list[Refusal]"
    named: frozenset[_Who]
    document: Document
    changes: "Changes | None" = None
    profiles: "list[LayerProfile]" = field(default_factory=list)

    @property
    def exit_status(self) -> int:
        """0, 1 for a failed check or a regression, or 2 for a named engine that does not run."""
        from verification.refusal import FAILED

        regressed = self.changes is not None and bool(self.changes.regressions or self.changes.stopped)
        if regressed or any(refusal.status == FAILED for refusal in self.refusals):
            return 1
        refused = {(refusal.engine, refusal.precision, refusal.device) for refusal in self.refusals}
        return 2 if refused & self.named else 0


def benchmark_of(
    session: Session,
    subjects: TimedSubjectOptions,
    device: Device | None,
    runtime: RuntimeOptions,
    options: BenchmarkOptions,
) -> Outcome:
    """Time engines, write and compare as the options say.

    Raises:
        UserError: nothing can be run; or the earlier benchmark cannot be read, or is of another network or
            machine. The latter is found before anything is measured.
    """
    from verification.regressions import changes_between, require_comparable

    before = None if options.compare is None else benchmark_from_file(options.compare)
    if options.save is not None:
        require_place_for(options.save)
    candidates = candidates_from_options(subjects, device)
    prepared, refused = _prepared(session, candidates)
    if before is not None:
        require_comparable(before, document_of(session, runtime, options, []), str(options.compare))
    benchmark = benchmarked(session, prepared, runtime, options, options.batch)
    refusals = [*refused, *benchmark.refusals]
    rows = [*benchmark.rows, *(refusal.to_row() for refusal in refusals)]
    document = document_of(session, runtime, options, rows)
    if options.save is not None:
        write_document(options.save, document)
        session.listener.say("save", str(options.save))
    return Outcome(
        benchmark.rows,
        refusals,
        frozenset(candidate.who for candidate in candidates if candidate.named),
        document,
        None if before is None else changes_between(before, document),
        _profiles(session, prepared, benchmark.rows, runtime) if options.profile else [],
    )


def candidates_from_options(options: TimedSubjectOptions, device: Device | None) -> list[Candidate]:
    """What the options ask for, whether it runs here or not.

    Raises:
        UserError: no engine that runs by default computes in one of the named precisions.
    """
    found: list[Candidate] = []
    if options.engine is None:
        found = _default_candidates(device)
    for name in options.engine or []:
        if name == EVERY_ENGINE:
            found += _every_candidate(device)
        else:
            found += _named_candidates(ENGINES[name], options.precision, device)
    if options.precision is not None:
        found = [candidate for candidate in found if candidate.precision in options.precision]
    if not found:
        raise UserError("no engine runs that precision here", "see `python cli.py doctor`")
    # A name counts, whether `all` stands before it or behind it.
    found.sort(key=lambda candidate: not candidate.named)
    unique = {one.who: one for one in reversed(found)}
    order = [(name, precision) for name in TIMED for precision in Precision]
    return sorted(unique.values(), key=lambda one: (order.index((one.spec.name, one.precision)), one.device))


def _default_candidates(device: Device | None) -> list[Candidate]:
    specs = [ORIGINAL, *(spec for spec in ENGINES.values() if spec.by_default)]
    return [
        Candidate(spec, precision, Device(spec.device(device or Device.cpu)))
        for spec in specs
        for precision in _offered(spec, device)
    ]


def _named_candidates(
    spec: EngineSpec, precisions: list[Precision] | None, device: Device | None
) -> list[Candidate]:
    at = Device(spec.device(device or Device.cpu))
    return [Candidate(spec, precision, at, named=True) for precision in precisions or _offered(spec, device)]


def _every_candidate(device: Device | None) -> list[Candidate]:
    """Every engine that is timed, in all that it could compute in on a machine that has the parts."""
    return [
        Candidate(spec, precision, at)
        for spec in (ENGINES[name] for name in TIMED)
        for at in ([device] if device else [*Device])
        for precision in Precision
        if (at, precision) in _supported(spec)
    ]


def _offered(spec: EngineSpec, device: Device | None) -> list[Precision]:
    """The precisions that an engine computes in here; float32 stands for one whose library does not load.

    Such an engine gets a row with the reason, because `_prepared` loads the library again.
    """
    try:
        return offered_precisions(spec, device)
    except UserError:
        return [Precision.fp32]


def _supported(spec: EngineSpec) -> Collection[tuple[Device, Precision]]:
    """All that an engine could compute in; as in `_offered` where its library does not load."""
    try:
        return spec.runtime().supports
    except UserError:
        return {(at, Precision.fp32) for at in Device if spec.device(at) == at}


def _prepared(session: Session, candidates: list[Candidate]) -> "tuple[list[Subject], list[Refusal]]":
    """The artifact of each candidate, made where it is missing, or why there is none.

    Raises:
        UserError: there is no artifact for any of them.
    """
    from verification.refusal import refusal_of

    subjects: list[Subject] = []
    refusals: list[Refusal] = []
    for candidate in candidates:
        spec, precision, device = candidate.spec, candidate.precision, candidate.device
        try:
            if not candidate.named:
                _require_device(device)
            subjects += subjects_of(session, spec, [precision], device)
        except UserError as error:
            refusals.append(refusal_of(error, spec.name, precision, device))
    if not subjects:
        raise refusals[0].error
    return subjects, refusals


def _require_device(device: Device) -> None:
    """Building engines takes minutes, which a machine without a GPU need not spend on them for a timing."""
    from machine.gpu import gpus

    if device == Device.cuda and not gpus():
        raise UserError("this machine has no NVIDIA driver or GPU", "use a machine that has one")


def _profiles(
    session: Session, subjects: "list[Subject]", rows: list[Row], runtime: RuntimeOptions
) -> "list[LayerProfile]":
    """The layers of each engine that was measured at the largest batch size, at that size."""
    from runtimes.subjects import Subject
    from verification.layer_profile import profiles_of

    largest = max(row["batch"] for row in rows)
    measured = {Subject.of_row(row) for row in rows if row["batch"] == largest}
    return profiles_of(
        session.run,
        session.dataset,
        [subject for subject in subjects if subject in measured],
        largest,
        runtime.threads,
        runtime.allow_saturation,
        session.listener.progress,
        runtime.cuda_graphs,
    )


def outcome_fields(outcome: Outcome) -> dict[str, Any]:
    """What `--json` says of a benchmark."""
    from artifacts.json_codec import to_json

    more: dict[str, Any] = {}
    if outcome.changes is not None:
        more["changes"] = to_json(outcome.changes)
    if outcome.profiles:
        more["profiles"] = to_json(outcome.profiles)
    return {**outcome.document, **more}
