"""Keep what native libraries print by themselves away from the terminal.

ONNX Runtime, OpenVINO and TensorRT write log lines to the file descriptors 1 and 2, past `sys.stdout` and
`sys.stderr`. Descriptor 1 may carry a JSON document, which one such line would spoil.
"""

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from tempfile import TemporaryFile
from typing import IO

_STANDARD_OUTPUT_AND_ERROR = (1, 2)


@contextmanager
def native_output() -> Iterator[StringIO]:
    """Collect what is written to standard output and standard error while the block runs.

    Returns:
        a text that is complete when the block has ended: first the lines of Python, then the native ones.
    """
    collected = StringIO()
    with TemporaryFile() as file:
        try:
            with ExitStack() as redirected:
                _flush()
                for descriptor in _STANDARD_OUTPUT_AND_ERROR:
                    redirected.enter_context(_redirected(descriptor, file))
                # The flush runs before the descriptors are restored, because the stack unwinds backwards.
                redirected.callback(_flush)
                redirected.enter_context(redirect_stdout(collected))
                redirected.enter_context(redirect_stderr(collected))
                yield collected
        finally:
            file.seek(0)
            collected.write(file.read().decode(errors="replace"))


@contextmanager
def _redirected(descriptor: int, file: IO[bytes]) -> Iterator[None]:
    before = os.dup(descriptor)
    os.dup2(file.fileno(), descriptor)
    try:
        yield
    finally:
        os.dup2(before, descriptor)
        os.close(before)


def _flush() -> None:
    """Write out what the C library buffers, which it does where standard output is a pipe: fflush(NULL)."""
    ctypes.CDLL("ucrtbase.dll" if sys.platform == "win32" else None).fflush(None)
