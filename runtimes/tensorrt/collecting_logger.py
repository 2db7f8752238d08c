"""A logger for TensorRT that keeps what matters and prints nothing.

`trt.Logger` writes to standard output, where it would stand in the middle of a JSON document.
"""

from collections import Counter
from types import ModuleType
from typing import Any

from runtimes.tensorrt.layers_from_message import HEADING


def collecting_logger(trt: ModuleType) -> Any:
    """A `trt.ILogger` that keeps what matters.

    - Its `errors` are a list of messages, in order.
    - Its `warnings` are a Counter of messages, because TensorRT says the same of every convolution.
    - Its `layers` are the message that lists a plan's final layers, None until one came.
    """

    class Collector(trt.ILogger):  # type: ignore[misc, name-defined]
        """Keeps errors, warnings and the list of layers."""

        def __init__(self) -> None:
            super().__init__()
            self.errors: list[str] = []
            self.warnings: Counter[str] = Counter()
            self.layers: str | None = None

        def log(self, severity: Any, message: str) -> None:
            if severity <= trt.ILogger.Severity.ERROR:
                self.errors.append(message.strip())
            # Some warnings, such as that of a target left out, come with the severity VERBOSE.
            elif severity <= trt.ILogger.Severity.WARNING or "Warning:" in message:
                self.warnings[message.strip()] += 1
            elif message.startswith(HEADING):
                self.layers = message

    return Collector()
