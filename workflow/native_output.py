"""Keep what native libraries print by themselves away from the terminal.

ONNX Runtime, OpenVINO and TensorRT write log lines to the file descriptors 1 and 2, past `sys.stdout` and
`sys.stderr`. Descriptor 1 may carry a JSON document, which one such line would spoil.
"""

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from io import StringIO
from tempfile import TemporaryFile
from typing import IO

_STANDARD_OUTPUT_AND_ERROR = (1, 2)


@contextmanager
def native_output() -> Iterator[StringIO]:
    """Collect what is written to standard output and standard error while the block runs.

    Returns:
        a text that is complete when the block has ended; empty before.
    """
    collected = StringIO()
    _flush()
    with TemporaryFile() as file:
        try:
            with ExitStack() as redirected:
                for descriptor in _STANDARD_OUTPUT_AND_ERROR:
                    redirected.enter_context(_redirected(descriptor, file))
                # This callback runs before the descriptors are restored, because the stack unwinds backwards.
                redirected.callback(_flush)
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
    """Write out the buffers of Python and of C, so that no line arrives before or after its time."""
    sys.stdout.flush()
    sys.stderr.flush()
    # The C library buffers a standard output that is a pipe; fflush(NULL) writes all its streams.
    ctypes.CDLL("ucrtbase.dll" if sys.platform == "win32" else None).fflush(None)
