"""A run to a bundle, and a bundle that was received to verdicts."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from artifacts.names import CHECKPOINT_CARD
from errors import CheckFailed, UserError
from runtimes.engines import ENGINES, EngineSpec
from vocabulary import Device, Precision
from workflow.beside_bundle import page_beside, repository_beside, require_served, runtime_of_browsers
from workflow.choice import Session
from workflow.listener import NOBODY, Listener, busy
from workflow.measure import subjects_of, verified
from workflow.options import BundleOptions, ReceivedOptions, RuntimeOptions, SubjectOptions
from workflow.sdk import source_files
from workflow.stages import ensure_engines

if TYPE_CHECKING:
    from bundling.document import ArtifactEntry, BundleDocument
    from bundling.judged import Judged
    from runtimes.subjects import Subject

DEFAULT_FOLDER = "bundle"


@dataclass(frozen=True)
class WrittenBundle:
    """What was written.

    Attributes:
        document: the content of bundle.json, and `sha256` the sha256 of that file.
        folder: where the bundle lies; `archive` is the file beside it, if one was asked for.
        triton: the model repository beside it, and `web` the page, likewise.
    """

    document: "BundleDocument"
    sha256: str
    folder: Path
    archive: Path | None
    triton: Path | None = None
    web: Path | None = None


def bundled(
    session: Session,
    subjects: SubjectOptions = SubjectOptions(),
    options: BundleOptions = BundleOptions(),
    runtime: RuntimeOptions = RuntimeOptions(),
) -> WrittenBundle:
    """Write the verified artifacts of a run as a bundle; what is missing is made, and verified.

    Raises:
        UserError: an artifact that was named is not verified, or nothing is; the network is not trained; what
            was asked for cannot be made, or has no place. Nothing is written then.
    """
    from bundling.assemble import bundle_from_run
    from bundling.candidates import candidates_of
    from bundling.signing import require_key
    from bundling.writing import require_place, write_archive, write_bundle

    _require_trained(session, options)
    folder = options.out or session.run.path / DEFAULT_FOLDER
    # What can be wrong with the options is asked before the long work.
    require_place(folder, options.archive, options.triton, options.web)
    if options.sign is not None:
        require_key(options.sign)
    browsers = runtime_of_browsers(session) if options.web else None
    wanted = _subjects(session, subjects)
    judged = _judged(session, wanted + _adapted(session, wanted, options), runtime)
    left_out = () if options.unverified else tuple(entry for entry in judged if not entry.passed)
    if left_out and (subjects != SubjectOptions() or len(left_out) == len(judged)):
        raise UserError(_why_not(left_out[0]), "verify it first, or say --unverified, and the bundle says so")
    for entry in left_out:
        session.listener.say("bundle", f"left out: {_why_not(entry)}")
    candidates = candidates_of(session.run, [entry for entry in judged if entry not in left_out])
    with busy(session.listener, "running the golden pictures"):
        bundle = bundle_from_run(
            session.run,
            session.dataset.test,
            candidates,
            runtime.threads,
            runtime.allow_saturation,
            source_files() if options.with_sdk else {},
        )
    require_served(bundle.document, options.triton, options.web)
    write_bundle(bundle, folder, options.sign)
    archive = write_archive(folder) if options.archive else None
    triton = repository_beside(session, folder, bundle.document) if options.triton else None
    web = page_beside(folder, bundle.document, browsers) if browsers else None
    return WrittenBundle(bundle.document, bundle.sha256, folder, archive, triton, web)


def _subjects(session: Session, options: SubjectOptions) -> "list[Subject]":
    """Return the artifacts that the options mean, made where a named engine has none."""
    from bundling.candidates import BUNDLED_ENGINES

    if others := [name for name in options.engine or [] if name not in BUNDLED_ENGINES]:
        raise UserError(f"a bundle has no artifacts for {others[0]}", f"use {' or '.join(BUNDLED_ENGINES)}")
    subjects = []
    for name in options.engine or BUNDLED_ENGINES:
        of_engine = _plans if ENGINES[name].opens_plans else _graphs
        subjects += of_engine(session, ENGINES[name], options)
    if not subjects:
        raise UserError("there is nothing of that precision to put into a bundle", "leave out --precision")
    return subjects


def _graphs(session: Session, spec: EngineSpec, options: SubjectOptions) -> "list[Subject]":
    from runtimes.subjects import precisions_of

    offered = precisions_of(spec.name, Device.cpu)
    wanted = options.precision or offered
    if not options.engine:
        wanted = [precision for precision in wanted if precision in offered]
    return subjects_of(session, spec, wanted, Device.cpu) if wanted else []


def _plans(session: Session, spec: EngineSpec, options: SubjectOptions) -> "list[Subject]":
    """Return the run's plans; they are built first only if their engine was named."""
    from bundling.judged import plans_in
    from runtimes.tensorrt.targets import precisions_for

    if options.engine:
        ensure_engines(session, options.precision or precisions_for(()))
    return plans_in(session.run, options.precision or list(Precision))


def _adapted(session: Session, subjects: "list[Subject]", options: BundleOptions) -> "list[Subject]":
    """Return the graphs among the subjects once more for each adaptation that the options ask for."""
    from export.adapted_graph import Adaptation, adapted_from_graph

    adaptations = [Adaptation(pixels=True)] if options.u8 or options.web else []
    if options.static_batch:
        adaptations += [Adaptation(pixels, options.static_batch) for pixels in sorted({False, options.u8})]
    graphs = [subject for subject in subjects if not ENGINES[subject.engine].opens_plans]
    if adaptations and not graphs:
        raise UserError(
            "--u8, --web and --static-batch adapt ONNX graphs, and there are none", "add --engine ort"
        )
    return [
        replace(subject, artifact=adapted_from_graph(session.run, subject.artifact, adaptation)[0])
        for adaptation in adaptations
        for subject in graphs
    ]


def _judged(session: Session, subjects: "list[Subject]", runtime: RuntimeOptions) -> "list[Judged]":
    """Return the artifacts with their verdicts, and have those verified that were not and can be, here."""
    from bundling.judged import judged_in
    from machine.gpu import gpus

    # Verifying one artifact drops what another machine found out about the rest, so that is read first.
    known = {entry.subject: entry for entry in judged_in(session.run, subjects)}
    waiting = [
        entry.subject
        for entry in known.values()
        if entry.verdict is None and (gpus() or not ENGINES[entry.subject.engine].opens_plans)
    ]
    if waiting:
        verified(session, waiting, runtime)
        known |= {entry.subject: entry for entry in judged_in(session.run, waiting)}
    return list(known.values())


def _require_trained(session: Session, options: BundleOptions) -> None:
    trained = CHECKPOINT_CARD in session.run and session.card.trained
    if not (trained or options.unverified):
        raise UserError(
            f"{session.run.path} holds no trained weights, and a bundle is for a network that was trained",
            "run `train` first, or say --unverified, and the bundle says so",
        )


def _why_not(entry: "Judged") -> str:
    subject = entry.subject
    name = f"{subject.engine} {subject.precision} ({subject.artifact})"
    if entry.verdict is None:
        return f"{name} has not been verified, which takes a GPU that it runs on"
    return f"{name} is out of tolerance"


@dataclass(frozen=True)
class ArtifactOutcome:
    """What became of one artifact of a received bundle.

    Attributes:
        state: "passed", "failed", or "not run" where its runtime is not here.
        snr_db: signal to noise against the golden logits; None if it did not run.
        reason: why it failed or did not run; empty if it passed.
    """

    id: str
    state: str
    snr_db: float | None
    reason: str


@dataclass(frozen=True)
class CheckedBundle:
    """What a check of a received bundle came to."""

    document: "BundleDocument"
    outcomes: tuple[ArtifactOutcome, ...]

    @property
    def passed(self) -> bool:
        """Whether no artifact failed, and at least one was run."""
        states = [outcome.state for outcome in self.outcomes]
        return "failed" not in states and "passed" in states


def checked(
    received: ReceivedOptions, runtime: RuntimeOptions = RuntimeOptions(), listener: Listener = NOBODY
) -> CheckedBundle:
    """Check a bundle that was received: its files, then its golden pictures through every artifact.

    Raises:
        UserError: there is no bundle at the path.
        CheckFailed: a file is not what it was, or pictures are decoded to other pixels here.
    """
    from bundling.document import SIGNATURE
    from bundling.received import bundle_folder, checked_document
    from bundling.signing import check_signature
    from bundling.trial import require_same_pictures

    assert received.check is not None
    with bundle_folder(received.check) as folder:
        document = checked_document(folder, received.sha256)
        listener.say("files", f"{len(document.files)} files as bundle.json lists them")
        if received.public_key is not None:
            check_signature(folder, received.public_key)
            listener.say("signature", f"by {received.public_key}")
        elif (folder / SIGNATURE).is_file():
            listener.say("signature", "not checked, because --public-key does not say whose it has to be")
        require_same_pictures(folder, document)
        listener.say("pictures", f"{document.golden.count} decoded, fitted and normalised to the same bits")
        outcomes = tuple(
            _outcome(folder, document, artifact, runtime)
            for artifact in listener.progress(document.artifacts, "running the golden pictures")
        )
    return CheckedBundle(document, outcomes)


def _outcome(
    folder: Path, document: "BundleDocument", artifact: "ArtifactEntry", runtime: RuntimeOptions
) -> ArtifactOutcome:
    from bundling.trial import trial_of

    try:
        trial = trial_of(folder, document, artifact, runtime.threads)
    except CheckFailed as error:
        return ArtifactOutcome(artifact.id, "failed", None, error.problem)
    except UserError as error:
        return ArtifactOutcome(artifact.id, "not run", None, f"{error.problem} ({error.fix})")
    except Exception as error:
        # ONNX Runtime, OpenVINO and TensorRT raise errors of many types while they open or run a file, and
        # what one of them says of a received file is no bug of skipfold.
        return ArtifactOutcome(artifact.id, "failed", None, f"{type(error).__name__}: {_first_line(error)}")
    state = "failed" if trial.failures else "passed"
    return ArtifactOutcome(artifact.id, state, trial.snr_db, "; ".join(trial.failures))


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "no message")
