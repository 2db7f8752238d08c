"""A logger that keeps what TensorRT says; TensorRT's own prints to standard output, where JSON may stand."""

from types import ModuleType
from typing import Any


def collecting_logger(trt: ModuleType) -> Any:
    """An `ILogger` with the attributes `errors` and `warnings`, lists of messages in order."""

    class Collector(trt.ILogger):  # type: ignore[misc, name-defined]
        """Keeps messages by severity."""

        def __init__(self) -> None:
            super().__init__()
            self.errors: list[str] = []
            self.warnings: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            """Called by TensorRT, from any of its threads."""
            if severity <= trt.ILogger.Severity.ERROR:
                self.errors.append(message)
            elif severity == trt.ILogger.Severity.WARNING:
                self.warnings.append(message)

    return Collector()
