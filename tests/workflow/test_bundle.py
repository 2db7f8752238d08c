"""From a run to a bundle, and from a bundle to verdicts: what is put in, left out, run and refused."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from pretended_gpus import set_gpus
from recorded_calls import HeardProgress, answered_at

from artifacts.names import PARITY
from artifacts.run_directory import RunDirectory
from bundling.document import VerdictEntry
from bundling.judged import Judged
from errors import UserError
from machine.description import this_machine
from machine.gpu import Gpu
from runtimes.subjects import Subject
from training.checkpoints import checkpoint_from_initialisation
from vocabulary import Device, Precision
from workflow.bundle import WrittenBundle, bundled, checked
from workflow.choice import Session, session_from_options
from workflow.options import BundleOptions, ReceivedOptions, RunOptions, SubjectOptions

FAILED = VerdictEntry(False, 360, 5.0, 80.0, 80.0, 19.0, this_machine())
PASSED = replace(FAILED, passed=True)
PLAN = Subject("trt", Precision.int8, "engines/int8.rtx.engine", Device.cuda)


def session_of(run: RunDirectory) -> Session:
    return session_from_options(RunOptions(run_dir=run.path), HeardProgress())


def lines_of(session: Session) -> list[str]:
    assert isinstance(session.listener, HeardProgress)
    return [": ".join(line) for line in session.listener.lines]


def ids_of(bundle: WrittenBundle) -> set[str]:
    return {artifact.id for artifact in bundle.document.artifacts}


def test_what_is_not_verified_yet_is_verified_first(preact_run: RunDirectory) -> None:
    session = session_of(preact_run)
    options = SubjectOptions(engine=["ort"], precision=[Precision.int8])
    bundle = bundled(session, options)
    assert PARITY in session.run
    assert ids_of(bundle) == {"ort-int8"}
    (artifact,) = bundle.document.artifacts
    assert artifact.verdict is not None
    assert artifact.verdict.images == 360
    assert artifact.verdict.agreement > 97
    assert bundle.folder == preact_run.path / "bundle"
    assert bundle.archive is None


def test_what_is_verified_is_not_verified_again(
    bundled_run: RunDirectory, written: WrittenBundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = answered_at(monkeypatch, "verification.verify.verdicts_from_artifacts", ([], True))
    again = bundled(session_of(bundled_run), options=BundleOptions(out=tmp_path / "again"))
    assert calls == []
    assert again.document == written.document


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (SubjectOptions(), {"ort-fp32", "ort-int8", "openvino-fp32", "openvino-int8"}),
        (SubjectOptions(engine=["openvino"]), {"openvino-fp32", "openvino-int8"}),
        (SubjectOptions(precision=[Precision.fp32]), {"ort-fp32", "openvino-fp32"}),
    ],
)
def test_engines_and_precisions_choose(
    bundled_run: RunDirectory,
    written: WrittenBundle,
    tmp_path: Path,
    options: SubjectOptions,
    expected: set[str],
) -> None:
    bundle = bundled(session_of(bundled_run), options, BundleOptions(out=tmp_path / "out"))
    assert ids_of(bundle) == expected


@pytest.mark.parametrize("engine", ["torch", "reference"])
def test_an_engine_that_has_no_artifact_for_others(preact_run: RunDirectory, engine: str) -> None:
    with pytest.raises(UserError, match=f"no artifacts for {engine}: use ort or openvino or trt"):
        bundled(session_of(preact_run), SubjectOptions(engine=[engine]))


def test_a_precision_that_nothing_has(preact_run: RunDirectory) -> None:
    with pytest.raises(UserError, match="there is nothing of that precision"):
        bundled(session_of(preact_run), SubjectOptions(precision=[Precision.fp8]))


@pytest.fixture
def judge(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Give artifacts of one precision another verdict than `verify` would."""
    from bundling.judged import judged_in

    def change(precision: str, verdict: VerdictEntry | None) -> None:
        def judged(run: RunDirectory, subjects: list[Subject]) -> list[Judged]:
            return [
                Judged(entry.subject, verdict) if entry.subject.precision == precision else entry
                for entry in judged_in(run, subjects)
            ]

        monkeypatch.setattr("bundling.judged.judged_in", judged)

    return change


def test_what_is_out_of_tolerance_is_left_out_and_named(
    bundled_run: RunDirectory, written: WrittenBundle, tmp_path: Path, judge: Callable[..., None]
) -> None:
    judge("int8", FAILED)
    session = session_of(bundled_run)
    bundle = bundled(session, options=BundleOptions(out=tmp_path / "out"))
    assert ids_of(bundle) == {"ort-fp32", "openvino-fp32"}
    assert not bundle.document.unverified
    assert "bundle: left out: ort int8 (model.int8.cpu.onnx) is out of tolerance" in lines_of(session)


def test_unverified_puts_it_in_and_says_so(
    bundled_run: RunDirectory, written: WrittenBundle, tmp_path: Path, judge: Callable[..., None]
) -> None:
    judge("int8", FAILED)
    bundle = bundled(session_of(bundled_run), options=BundleOptions(out=tmp_path / "out", unverified=True))
    assert ids_of(bundle) == ids_of(written)
    assert bundle.document.unverified
    assert [artifact.is_verified for artifact in bundle.document.artifacts] == [True, True, False, False]
    assert "This bundle is not verified as a whole" in (bundle.folder / "README.md").read_text()
    assert "out of tolerance" in (bundle.folder / "README.md").read_text()


@pytest.mark.parametrize(
    "options", [SubjectOptions(precision=[Precision.int8]), SubjectOptions(engine=["ort"])]
)
def test_what_was_named_and_is_not_verified_is_refused(
    bundled_run: RunDirectory,
    written: WrittenBundle,
    tmp_path: Path,
    judge: Callable[..., None],
    options: SubjectOptions,
) -> None:
    judge("int8", FAILED)
    with pytest.raises(UserError, match=r"int8 \(.*\.onnx\) is out of tolerance: .*--unverified"):
        bundled(session_of(bundled_run), options, BundleOptions(out=tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_plan_needs_a_gpu_to_be_verified(
    bundled_run: RunDirectory, written: WrittenBundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_gpus(monkeypatch)
    monkeypatch.setattr("machine.gpu.gpus", list)
    monkeypatch.setattr("bundling.judged.plans_in", lambda run, precisions: [PLAN])
    session = session_of(bundled_run)
    bundle = bundled(session, options=BundleOptions(out=tmp_path / "out"))
    assert ids_of(bundle) == ids_of(written)
    (line,) = [line for line in lines_of(session) if "left out" in line]
    assert "trt int8 (engines/int8.rtx.engine) has not been verified, which takes a GPU" in line


def test_a_plan_is_verified_where_there_is_a_gpu(
    bundled_run: RunDirectory, written: WrittenBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("machine.gpu.gpus", lambda: [Gpu("NVIDIA double", 89)])
    monkeypatch.setattr("bundling.judged.plans_in", lambda run, precisions: [PLAN])
    calls = answered_at(monkeypatch, "verification.verify.verdicts_from_artifacts", ([], True))
    with pytest.raises(UserError, match="has not been verified"):
        bundled(session_of(bundled_run), SubjectOptions(precision=[Precision.int8]))
    assert [call["subjects"] for call in calls] == [[PLAN]]


def untrained(path: Path) -> RunDirectory:
    from data.load import dataset_from_name
    from models.config import resnet_config

    run = RunDirectory(path)
    checkpoint_from_initialisation(run, resnet_config("preact", 8), dataset_from_name("digits"), 0)
    return run


@pytest.mark.parametrize("make", [untrained, RunDirectory])
def test_an_untrained_network_is_refused(tmp_path: Path, make: Callable[[Path], RunDirectory]) -> None:
    """Nothing is written, neither into a run that has such weights nor into one that has none."""
    session = session_of(make(tmp_path / "run"))
    before = session.run.recorded()
    with pytest.raises(UserError, match="holds no trained weights, and a bundle is for a network that was"):
        bundled(session, SubjectOptions(engine=["ort"], precision=[Precision.fp32]))
    assert session.run.recorded() == before


def test_an_untrained_network_is_marked(tmp_path: Path) -> None:
    session = session_of(untrained(tmp_path / "run"))
    options = SubjectOptions(engine=["ort"], precision=[Precision.fp32])
    bundle = bundled(session, options, BundleOptions(unverified=True))
    assert (bundle.document.network.trained, bundle.document.unverified) == (False, True)
    assert bundle.document.artifacts[0].golden.snr_db == 30
    assert "**The weights are freshly initialised." in (bundle.folder / "README.md").read_text()
    assert checked(ReceivedOptions(check=bundle.folder)).passed


def test_nothing_is_made_where_the_bundle_has_no_place(preact_run: RunDirectory, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "bundle.json").write_text("{}")
    with pytest.raises(UserError, match="out is there and is no bundle that skipfold wrote"):
        bundled(session_of(preact_run), options=BundleOptions(out=tmp_path / "out"))
    assert PARITY not in preact_run


def test_nothing_is_made_where_the_key_cannot_sign(
    preact_run: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(private_key: Path) -> None:
        raise UserError(f"{private_key} cannot sign", "give another key")

    monkeypatch.setattr("bundling.signing.require_key", refuse)
    options = BundleOptions(out=tmp_path / "out", sign=tmp_path / "key")
    with pytest.raises(UserError, match="key cannot sign"):
        bundled(session_of(preact_run), options=options)
    assert PARITY not in preact_run
