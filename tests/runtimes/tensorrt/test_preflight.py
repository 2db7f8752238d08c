from pathlib import Path

import onnx
import pytest
from broken_graphs import BROKEN, Broken, graph_with
from fault_injection import graph_in, publish, set_card

from artifacts.names import MODEL_INT8_CPU, MODEL_INT8_GPU
from artifacts.run_directory import RunDirectory
from errors import CheckFailed
from graphs.onnx_file import any_graph_from_file
from runtimes.engines import GPU_GRAPHS, RTX_QUANTIZED
from runtimes.tensorrt.collecting_logger import collecting_logger
from runtimes.tensorrt.finding import Finding
from runtimes.tensorrt.package import BUILDERS
from runtimes.tensorrt.preflight import preflight, require_buildable

RTX = BUILDERS["rtx"]

needs_rtx = pytest.mark.skipif(RTX.version is None, reason="tensorrt-rtx is not installed")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "block.onnx"


def _findings(graph: onnx.ModelProto, path: Path, targets: tuple[str, ...]) -> list[Finding]:
    onnx.save(graph, path)
    return preflight(any_graph_from_file(path), RTX, list(targets))


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
def test_every_mistake_is_found_at_its_node_and_its_twin_passes(broken: Broken, path: Path) -> None:
    findings = _findings(graph_with(**broken.changes), path, broken.targets)
    assert any(entry.node == broken.node and broken.words in entry.problem for entry in findings)
    assert all(entry.fix for entry in findings)
    # Every mistake is one mistake: where it stands twice, as the type of all codes does, it is found twice.
    assert len({entry.problem for entry in findings}) == 1
    assert _findings(graph_with(**broken.twin), path, broken.twin_targets) == []


def test_the_corpus_has_graphs_enough() -> None:
    assert len(BROKEN) >= 20
    assert all(dict(broken.changes) or broken.targets != broken.twin_targets for broken in BROKEN.values())


@needs_rtx
@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
def test_tensorrt_parses_every_twin(broken: Broken) -> None:
    trt = RTX.load()
    logger = collecting_logger(trt)
    builder = trt.Builder(logger)
    network = builder.create_network(0)
    assert trt.OnnxParser(network, logger).parse(graph_with(**broken.twin).SerializeToString())
    # TensorRT has one logger in a process, and warns of a second one while a builder of another test lives.
    assert not [words for words in logger.warnings if "logger passed into" not in words]


@pytest.mark.parametrize("name", sorted({*GPU_GRAPHS.values(), *RTX_QUANTIZED.values()}))
def test_the_graphs_of_skipfold_pass(run: RunDirectory, name: str) -> None:
    require_buildable(run.verified(name), RTX, ["sm89", "sm120", "sm121"])


def test_tensorrt_has_int8_on_turing(path: Path) -> None:
    onnx.save(graph_with(), path)
    graph = any_graph_from_file(path)
    assert preflight(graph, BUILDERS["tensorrt"], ["sm75"]) == []
    assert preflight(graph, RTX, ["sm75"]) != []


def test_a_refusal_names_the_nodes_and_the_fixes(preact_run: RunDirectory) -> None:
    graph = graph_in(preact_run, MODEL_INT8_CPU)
    set_card(graph, flavour="gpu")
    publish(preact_run, MODEL_INT8_GPU, graph)
    with pytest.raises(
        CheckFailed, match=r"model\.int8\.gpu\.onnx is no graph for TensorRT for RTX"
    ) as refusal:
        require_buildable(preact_run.path / MODEL_INT8_GPU, RTX, ["sm89"])
    assert "images.quantize: codes in uint8 are read as int8" in refusal.value.problem
    assert "; and " in refusal.value.problem
    assert "quantize symmetrically to int8" in refusal.value.fix
    assert refusal.value.exit_status == 1
