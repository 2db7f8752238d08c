"""The page of a run: what stands on it, and what is left out.

Longer than 300 lines because all tests look at the one page that the report writes.
"""

import json
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from fault_injection import graph_in, publish, publish_engine
from made_up_tables import parity, subjects_in, timing, write_table
from system_encodings import set_ascii

from artifacts.names import ACCURACY, AUDIT, BENCHMARK, CHECKPOINT_CARD, MODEL, PARITY, REPORT, TRAINING_LOG
from artifacts.records import Step
from artifacts.run_directory import RunDirectory
from data.dataset import Dataset
from export.graph_from_checkpoint import graph_from_checkpoint
from models.config import resnet_config
from reporting.report import report_from_results
from runtimes.tensorrt.plan_layers import Layer, Tensor, traffic
from training.checkpoints import checkpoint_from_initialisation

LOADING = {"src", "srcset", "href", "xlink:href", "data", "poster", "action", "background", "formaction"}
EMPTY = {"meta", "br", "link", "img", "input", "hr"}


class Page(HTMLParser):
    """What a page shows, and what a browser would load for it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loaded: list[str] = []
        self.cells: list[str] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loaded += [value or "" for name, value in attributes if name in LOADING]
        if tag in ("td", "th"):
            self.cells.append("")
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attributes)
        if tag not in EMPTY:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data
        if {"td", "th"} & set(self.open):
            self.cells[-1] += data


def _page(run: RunDirectory, notes: list[str] | None = None) -> Page:
    report_from_results(run, notes or [])
    return Page(run.verified(REPORT).read_text(encoding="utf-8"))


def _add_figures(run: RunDirectory) -> None:
    torch, fp32, int8 = subjects_in(run, ("torch", "fp32"), ("ort", "fp32"), ("openvino", "int8"))
    about = {"images": 360, "original_accuracy": 97.5}
    write_table(run, PARITY, (fp32, parity(131.25)), (int8, parity(12.5, 91.25, ("too noisy",))), **about)
    accuracy = [(fp32, {"accuracy": 97.5, "drop": 0.0}), (int8, {"accuracy": 88.125, "drop": 9.375})]
    write_table(run, ACCURACY, *accuracy, **about)
    rows = [(torch, timing(b, 4.0, 4.0)) for b in (1, 8, 32)] + [
        (fp32, timing(b, 1.25, 4.0)) for b in (1, 8, 32)
    ]
    write_table(run, BENCHMARK, *rows)


def test_page_loads_nothing(run: RunDirectory) -> None:
    _add_figures(run)
    page = _page(run, ["a note"])
    assert not {"script", "link", "iframe", "img", "object", "embed", "base", "form"} & set(page.tags)
    assert all(target.startswith("#") for target in page.loaded)
    source = run.verified(REPORT).read_text()
    assert "@import" not in source
    assert all(part.startswith(("#", "'#", '"#')) for part in source.split("url(")[1:])


def test_page_is_well_formed(run: RunDirectory) -> None:
    _add_figures(run)
    page = _page(run, ["a note"])
    assert page.open == []
    assert page.tags[0] == "html"


def test_table_holds_the_figures(preact_run: RunDirectory) -> None:
    _add_figures(preact_run)
    page = _page(preact_run)
    width = 12
    header, *lines = [page.cells[i : i + width] for i in range(0, len(page.cells), width)]
    assert header[:2] == ["engine", "precision"]
    assert header[-1] == "verdict"
    size = f"{preact_run.record(MODEL).size / 1e6:.2f}"
    assert [line[:2] for line in lines] == [["torch", "fp32"], ["ort", "fp32"], ["openvino", "int8"]]
    assert lines[1] == [
        *("ort", "fp32", "97.50", "0.00", "100.00", "131.2", "1.25", "3.20", "1.25", "3.20", size, "pass")
    ]
    assert lines[2][2:10] == ["88.12", "9.38", "91.25", "12.5", "–", "–", "–", "–"]
    assert lines[2][-1] == "FAIL: too noisy"


def test_page_names_the_network_its_training_and_the_machine(preact_run: RunDirectory) -> None:
    _add_figures(preact_run)
    text = _page(preact_run).text
    assert "preact ResNet-8 on digits" in text
    assert "basic blocks, 10 classes; trained 4 epochs" in text
    assert "Made <Up> CPU (AVX2), 2 cores, no NVIDIA GPU" in text
    assert "Parity and accuracy on 360 test images" in text
    assert "torch 2" in text


def test_all_plots_are_drawn_with_their_labels(preact_run: RunDirectory) -> None:
    _add_figures(preact_run)
    page = _page(preact_run)
    assert page.tags.count("svg") == 3
    for label in (
        "batch 1",
        "batch 8",
        "batch 32",
        "ort fp32",
        "3.20×",
        "median latency of a call, ms",
        "training loss",
        "held-out accuracy, %",
    ):
        assert label in page.text


def test_without_a_benchmark_there_is_one_plot(preact_run: RunDirectory) -> None:
    page = _page(preact_run)
    assert page.tags.count("svg") == 1
    assert "Throughput" not in page.text


def test_without_a_training_log_there_is_no_training_plot(preact_run: RunDirectory) -> None:
    preact_run.discard(TRAINING_LOG)
    page = _page(preact_run)
    assert "svg" not in page.tags
    assert "training loss" not in page.text


def test_benchmark_of_another_checkpoint_or_graph_is_not_drawn(preact_run: RunDirectory) -> None:
    (fp32,) = subjects_in(preact_run, ("ort", "fp32"))
    write_table(preact_run, BENCHMARK, (fp32, timing(1, 1.0, 4.0)))
    graph = graph_in(preact_run, MODEL)
    graph.doc_string = "changed"
    publish(preact_run, MODEL, graph)
    assert "Throughput" not in _page(preact_run).text


@pytest.mark.parametrize("engine", ["ort", "openvino", "reference", "torch"])
def test_every_engine_can_be_drawn(preact_run: RunDirectory, engine: str) -> None:
    (subject,) = subjects_in(preact_run, (engine, "fp32"))
    write_table(preact_run, BENCHMARK, (subject, timing(1, 1.0, 4.0)))
    assert f"{engine} fp32" in _page(preact_run).text


def test_devices_of_one_engine_have_bars_of_their_own(preact_run: RunDirectory) -> None:
    (cpu,) = subjects_in(preact_run, ("ort", "fp32"))
    cuda = replace(cpu, device="cuda")
    write_table(preact_run, BENCHMARK, (cpu, timing(1, 2.0, 4.0)), (cuda, timing(1, 0.5, 4.0)))
    page = _page(preact_run)
    assert "ort CUDA fp32" in page.text
    assert [cell for cell in page.cells if cell.startswith("ort")] == ["ort", "ort CUDA"]


def test_notes_are_shown_and_escaped(preact_run: RunDirectory) -> None:
    page = _page(preact_run, ["trt: no <b>driver</b> & no GPU", "<script>alert(1)</script>"])
    assert "Not done here" in page.text
    assert "trt: no <b>driver</b> & no GPU" in page.text
    assert not {"script", "b"} & set(page.tags)


def test_without_notes_nothing_is_said_to_be_left_out(preact_run: RunDirectory) -> None:
    assert "Not done here" not in _page(preact_run).text


def test_names_from_files_are_escaped(preact_run: RunDirectory) -> None:
    """Folder names make class names, and a checkpoint from elsewhere brings its own."""
    document = json.loads(preact_run.verified(CHECKPOINT_CARD).read_text())
    document["dataset"] = "<img src=x onerror=alert(1)>"
    document["classes"] = ["<script>alert(2)</script>", *document["classes"][1:]]
    document["training"]["arithmetic"] = "<script>alert(3)</script>"
    with preact_run.writing(Step("export", {}, (), (CHECKPOINT_CARD,))) as folder:
        (folder / CHECKPOINT_CARD).write_text(json.dumps(document))
    (fp32,) = subjects_in(preact_run, ("ort", "fp32"))
    failures = ("<script>alert(4)</script>",)
    write_table(preact_run, PARITY, (fp32, parity(1, 1, failures)), images=360, original_accuracy=1)
    page = _page(preact_run)
    assert not {"script", "img"} & set(page.tags)
    assert page.loaded == [target for target in page.loaded if target.startswith("#")]
    assert "on <img src=x onerror=alert(1)>" in page.text
    assert "FAIL: <script>alert(4)</script>" in page.text


def test_untrained_weights_are_warned_of(tmp_path: Path, digits: Dataset) -> None:
    run = RunDirectory(tmp_path / "run")
    checkpoint_from_initialisation(run, resnet_config("original", 8), digits, seed=0)
    graph_from_checkpoint(run)
    (fp32,) = subjects_in(run, ("ort", "fp32"))
    about = {"images": 360, "original_accuracy": 12.5}
    write_table(run, PARITY, (fp32, parity(130.0, 98.75)), **about)
    write_table(run, ACCURACY, (fp32, {"accuracy": 12.5, "drop": 0.0}), **about)
    page = _page(run)
    assert "freshly initialised, not trained" in page.text
    assert "12.5" not in page.text
    assert "98.75" not in page.text
    assert "130.0" in page.text


def test_trained_weights_are_not(preact_run: RunDirectory) -> None:
    assert "freshly initialised" not in _page(preact_run).text


def test_skip_path_is_told_from_the_audit(run: RunDirectory) -> None:
    text = _page(run).text
    variant = run.path.name.split("-")[1]
    audit = json.loads(run.verified(AUDIT).read_text())
    assert f"{audit['folded']} batch normalizations folded into convolutions, {audit['kept']} stay" in text
    assert "3 Add, 2 projection convolutions" in text
    assert ("the skip path is clean" in text) == (variant == "preact")
    assert ("3 ReLU: every Add is followed by one" in text) == (variant == "original")


def test_engines_built_and_not_run_are_in_the_table(preact_run: RunDirectory) -> None:
    publish_engine(preact_run, "engines/int8.rtx.engine")
    page = _page(preact_run)
    assert page.cells[12:14] == ["trt", "int8"]
    assert "not run" in page.cells[23]


def test_engines_have_a_table_of_their_kernels(preact_run: RunDirectory) -> None:
    images = Tensor("images", (-1, 3, 32, 32), "float16", "NHWC")
    pool = Layer("pool", "kgen", 1, (images,), (), (images,), "", ("pool",))
    layers = (replace(pool, profile=0), pool, replace(pool, kind="correlation"), replace(pool, kind="wait"))
    told = (traffic(layers, 0, 1), traffic(layers, 1, 32))
    publish_engine(preact_run, "engines/fp16.rtx.engine", layers, traffic=told, warnings={"odd": 3, "bad": 1})
    page = _page(preact_run)
    start = page.cells.index("kind of kernel")
    assert page.cells[start + 1 : start + 5] == [
        *("kernels atbatch 1", "MB moved atbatch 1", "kernels atbatch 32", "MB moved atbatch 32")
    ]
    assert page.cells[start + 5 : start + 20] == [
        *("correlation", "0", "0.00", "1", "0.39"),
        *("kgen", "1", "0.01", "1", "0.39"),
        *("all", "1", "0.01", "2", "0.79"),
    ]
    assert "9 float32 convolutions. Proof: the types of the final layers, listed by the builder." in page.text
    assert "TensorRT warned 4 times, in 2 ways." in page.text


def test_an_engine_without_proof_says_why(preact_run: RunDirectory) -> None:
    nothing = {"proof": "none", "proof_sentence": "none, because the log is empty", "convolutions": {}}
    publish_engine(preact_run, "engines/fp16.rtx.engine", traffic=(), **nothing)
    page = _page(preact_run)
    assert "types of the convolutions not proved. Proof: none, because the log is empty." in page.text
    assert "kind of kernel" not in page.cells


def test_page_is_recorded_in_the_run_with_its_notes(preact_run: RunDirectory) -> None:
    _page(preact_run, ["a note"])
    record = preact_run.record(REPORT)
    assert (record.stage, record.options) == ("report", {"notes": ["a note"]})


def test_same_figures_give_the_same_page(preact_run: RunDirectory) -> None:
    """But for the time it is written."""
    _add_figures(preact_run)

    def source() -> list[str]:
        report_from_results(preact_run, [])
        return [
            line for line in preact_run.verified(REPORT).read_text().splitlines() if "Written" not in line
        ]

    assert source() == source()


def test_figures_of_another_cpu_say_where_they_were_measured(preact_run: RunDirectory) -> None:
    (int8,) = subjects_in(preact_run, ("ort", "int8"))
    figures = parity() | {"saturation": "free"}
    write_table(preact_run, PARITY, (int8, figures), images=360, original_accuracy=97.5)
    report_from_results(preact_run, [])
    page = Page((preact_run.path / REPORT).read_text())
    assert "Measured on Made <Up> CPU (AVX2), not on the machine that wrote this page" in page.text
    assert "pass, saturation-free" in page.text


def test_what_belongs_to_earlier_weights_is_not_shown(preact_run: RunDirectory, digits: Dataset) -> None:
    """The training curve and the audit of weights that initialised ones have replaced."""
    before = _page(preact_run).text
    assert "the skip path is clean" in before and "training loss" in before
    checkpoint_from_initialisation(preact_run, resnet_config("preact", 8), digits, seed=3)
    after = _page(RunDirectory(preact_run.path)).text
    assert "the skip path is clean" not in after and "training loss" not in after


def test_page_is_utf8_whatever_the_system_uses(
    monkeypatch: pytest.MonkeyPatch, preact_run: RunDirectory
) -> None:
    set_ascii(monkeypatch)
    assert "–" in _page(preact_run, ["a note – with a dash"]).text
