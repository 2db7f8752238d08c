"""Native libraries print past `sys.stdout`, and none of that reaches a document on standard output."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from runtimes.native_output import native_output

ROOT = Path(__file__).parents[2]

TALKATIVE = """
import ctypes, os, sys
from workflow import doctor

def talkative():
    # C buffers this line, because standard output is a pipe here.
    ctypes.CDLL(None).puts(b"[I] a line of a C library")
    os.write(1, b"[I] an unbuffered line\\n")
    os.write(2, b"[W] a warning\\n")
    print("a line of Python")
    return "seen"

sys.stdout.write("[")
capability = doctor._tried("talk", talkative)
sys.stdout.write(f'"{capability.provided_by}"]')
"""


def test_lines_are_collected_from_both_streams(capfd: pytest.CaptureFixture[str]) -> None:
    with native_output() as collected:
        os.write(1, b"to standard output\n")
        os.write(2, b"to standard error: \xff\n")
    assert collected.getvalue() == "to standard output\nto standard error: \N{REPLACEMENT CHARACTER}\n"
    assert capfd.readouterr() == ("", "")
    os.write(1, b"after")
    assert capfd.readouterr() == ("after", "")


def test_lines_of_python_are_collected_too(capfd: pytest.CaptureFixture[str]) -> None:
    with native_output() as collected:
        os.write(1, b"native\n")
        sys.stdout.write("python\n")
    assert collected.getvalue() == "python\nnative\n"
    assert capfd.readouterr() == ("", "")


def test_streams_are_restored_after_an_error(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ZeroDivisionError), native_output() as collected:
        os.write(1, b"before the error")
        raise ZeroDivisionError
    assert collected.getvalue() == "before the error"
    os.write(1, b"after")
    assert capfd.readouterr().out == "after"


def test_blocks_can_be_nested(capfd: pytest.CaptureFixture[str]) -> None:
    with native_output() as outer:
        os.write(1, b"a")
        with native_output() as inner:
            os.write(1, b"b")
        os.write(1, b"c")
    assert (outer.getvalue(), inner.getvalue()) == ("ac", "b")


@pytest.mark.skipif(sys.platform == "win32", reason="the C library has another name on Windows")
def test_document_on_standard_output_is_whole() -> None:
    # Under PYTHONUNBUFFERED the C library would not buffer either.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    command = [sys.executable, "-c", TALKATIVE]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == ["seen"]
    assert done.stderr == ""
