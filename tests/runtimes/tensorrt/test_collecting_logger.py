from typing import Any

import pytest
from pretended_tensorrt import PretendedTensorRT, Severity

from runtimes.tensorrt.collecting_logger import collecting_logger
from runtimes.tensorrt.package import BUILDERS

RTX = BUILDERS["rtx"]
PACKAGE: Any = PretendedTensorRT()

needs_rtx = pytest.mark.skipif(RTX.version is None, reason="tensorrt-rtx is not installed")


def test_errors_warnings_and_layers_are_kept_apart() -> None:
    logger = collecting_logger(PACKAGE)
    for severity, message in (
        (Severity.INTERNAL_ERROR, "worse"),
        (Severity.ERROR, "wrong "),
        (Severity.WARNING, " (foreignNode) odd"),
        (Severity.WARNING, " (foreignNode) odd"),
        (Severity.INFO, "by the way"),
        (Severity.VERBOSE, "Searching for input: images"),
        (Severity.VERBOSE, " (foreignNode) Warning: this engine will not be able to run on sm80"),
        (Severity.VERBOSE, "Layers:\nName: a"),
    ):
        logger.log(severity, message)
    assert logger.errors == ["worse", "wrong"]
    assert logger.warnings == {
        "(foreignNode) odd": 2,
        "(foreignNode) Warning: this engine will not be able to run on sm80": 1,
    }
    assert logger.layers == "Layers:\nName: a"


def test_no_layers_came() -> None:
    assert collecting_logger(PACKAGE).layers is None


@needs_rtx
def test_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    trt = RTX.load()
    logger = collecting_logger(trt)
    builder = trt.Builder(logger)
    assert not trt.OnnxParser(builder.create_network(0), logger).parse(b"no protobuf")
    logger.log(trt.ILogger.Severity.ERROR, "wrong")
    assert "wrong" in logger.errors
    assert capfd.readouterr() == ("", "")
