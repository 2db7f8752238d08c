"""Pretend that the system's encoding of text is not UTF-8, as it is on Windows."""

import io

import pytest


def set_ascii(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every file that is opened without an encoding be ASCII, so that any other character is an error.

    Windows takes a code page such as cp1252, which fails later and less plainly: it has an en dash and no
    minus sign.
    """
    monkeypatch.setattr(io, "text_encoding", lambda encoding, stacklevel=2: encoding or "ascii")
