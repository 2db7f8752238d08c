"""Verification: engines against the PyTorch original on the whole test split.

parity.json     signal to noise, largest error, agreement and verdict of each engine; of INT8 graphs
                for CPUs, whether sums of products can overflow 16 bits
accuracy.json   top-1 accuracy of the original and of each engine, and the drop
"""

import math
from dataclasses import asdict, dataclass
from typing import Any

from artifacts.names import ACCURACY, CHECKPOINT, CHECKPOINT_CARD, PARITY
from artifacts.records import Step
from artifacts.run_directory import RunDirectory
from data.dataset import Dataset
from errors import UserError
from graphs.onnx_file import any_graph_from_file
from graphs.saturation import RULES, not_proved_free, saturation_findings
from machine.description import this_machine
from progress import Progress, silent
from runtimes.subjects import Subject, open_subject, subject_in
from verification.compare import Comparison, compare, compare_with, logits_of_split
from verification.rows import Row, kept_rows, read_table, row_of, rows_of, table_text
from verification.tolerances import TOLERANCES, failures


@dataclass(frozen=True)
class Verdict:
    """One engine's figures and what is out of tolerance, if anything.

    Attributes:
        saturation: "free", or the operators not proved free of 16-bit saturation; None where no INT8
            kernel of a CPU runs.
    """

    subject: Subject
    figures: Comparison
    failures: tuple[str, ...]
    saturation: str | list[str] | None = None

    @property
    def passed(self) -> bool:
        """Whether everything is within tolerance."""
        return not self.failures


def verdicts_from_artifacts(
    run: RunDirectory,
    dataset: Dataset,
    subjects: list[Subject],
    threads: int | None = None,
    force: bool = False,
    progress: Progress = silent,
    allow_saturation: bool = False,
    cuda_graphs: bool | None = None,
) -> tuple[list[Row], bool]:
    """Verify each subject and write parity.json and accuracy.json.

    Returns:
        the rows of parity.json that belong to `subjects`, and whether anything was measured.

    Raises:
        UserError: nothing to verify; an artifact of another network than the checkpoint, or another
            data set than it was trained on.
    """
    if not subjects:
        raise UserError("nothing to verify", "name an engine and a precision")
    machine = this_machine().to_json()
    step = Step(
        stage="verify",
        options={
            "subjects": [asdict(subject) for subject in subjects],
            "dataset": dataset.sha256,
            "machine": machine,
            "saturation_rules": RULES,
            "tolerances": {name: asdict(limit) for name, limit in TOLERANCES.items()},
            "cuda_graphs": cuda_graphs,
        },
        inputs=(CHECKPOINT, CHECKPOINT_CARD, *dict.fromkeys(s.artifact for s in subjects)),
        outputs=(PARITY, ACCURACY),
        packages=("torch", "onnxruntime", "openvino"),
    )
    if run.is_current(step) and not force:
        return rows_of(subjects, read_table(run.path / PARITY)["rows"]), False
    with run.writing(step) as folder:
        verdicts, original = _measure(
            run, dataset, subjects, threads, progress, allow_saturation, cuda_graphs
        )
        parity = [row_of(run, v.subject, _parity_figures(v)) for v in verdicts]
        accuracy = [row_of(run, v.subject, _accuracy_figures(v)) for v in verdicts]
        head: Row = {
            "dataset": dataset.name,
            "dataset_sha256": dataset.sha256,
            "images": len(dataset.test),
            "saturation_rules": RULES,
        }
        for name, rows in ((PARITY, parity), (ACCURACY, accuracy)):
            kept = kept_rows(run, name, machine, rows, **head)
            (folder / name).write_text(table_text(machine, kept + rows, **head, **original))
    return parity, True


def _measure(
    run: RunDirectory,
    dataset: Dataset,
    subjects: list[Subject],
    threads: int | None,
    progress: Progress,
    allow_saturation: bool,
    cuda_graphs: bool | None,
) -> tuple[list[Verdict], dict[str, Any]]:
    with open_subject(run, subject_in(run, "torch", "fp32"), threads) as runtime:
        reference = runtime.card
        if reference.dataset != dataset.name or reference.classes != dataset.classes:
            raise UserError(
                f"{run.path} is for {reference.dataset} with {len(reference.classes)} classes, not "
                f"{dataset.name} with {len(dataset.classes)}",
                "give the data set it was made for with --dataset",
            )
        original = logits_of_split(runtime, dataset, dataset.test, "PyTorch original", progress)
    verdicts = []
    for subject in subjects:
        with open_subject(run, subject, threads, allow_saturation, cuda_graphs) as runtime:
            card = runtime.card
            if not card.is_same_network(reference):
                raise UserError(
                    f"{subject.artifact} is another network than {CHECKPOINT}",
                    "export, calibrate and build again",
                )
            description = f"{subject.engine} {subject.precision}"
            logits = logits_of_split(runtime, dataset, dataset.test, description, progress)
        figures = compare_with(original, card, logits, dataset.test.labels)
        faults = failures(figures, subject.precision, reference.trained)
        saturation = _saturation(run, subject) if card.saturation else None
        if card.saturation == "proved" and saturation != "free":
            faults.append(f"the file claims freedom from saturation, which is not proved of {saturation}")
        verdicts.append(Verdict(subject, figures, tuple(faults), saturation))
    itself = compare(original, original, dataset.test.labels)
    return verdicts, {"trained": reference.trained, "original_accuracy": itself.accuracy}


def _saturation(run: RunDirectory, subject: Subject) -> str | list[str]:
    """The operators of a graph that are not proved free of saturation, or "free"."""
    return not_proved_free(saturation_findings(any_graph_from_file(run.path / subject.artifact))) or "free"


def _parity_figures(verdict: Verdict) -> Row:
    figures = verdict.figures
    return {
        "images": figures.images,
        # JSON has no infinity.
        "snr_db": figures.snr_db if math.isfinite(figures.snr_db) else None,
        "max_error": figures.max_error,
        "agreement": figures.agreement,
        "passed": verdict.passed,
        "failures": list(verdict.failures),
        "saturation": verdict.saturation,
    }


def _accuracy_figures(verdict: Verdict) -> Row:
    return {"accuracy": verdict.figures.accuracy, "drop": verdict.figures.drop}
