"""Signatures, where `model-signing` is installed, and a plain word where it is not."""

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest

from bundling.signing import check_signature, require_key, sign
from errors import CheckFailed, UserError

needs_model_signing = pytest.mark.skipif(
    find_spec("model_signing") is None, reason="model-signing is not installed"
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "small"
    (folder / "models").mkdir(parents=True)
    (folder / "models/model.onnx").write_bytes(b"graph")
    (folder / "bundle.json").write_text("{}")
    return folder


def pem_of(private: Any) -> bytes:
    from cryptography.hazmat.primitives import serialization

    form, unencrypted = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    content: bytes = private.private_bytes(serialization.Encoding.PEM, form, unencrypted)
    return content


def key_pair(folder: Path, name: str) -> tuple[Path, Path]:
    """A private and a public key on an elliptic curve; `model-signing` installs `cryptography`."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    private = ec.generate_private_key(ec.SECP256R1())
    paths = folder / f"{name}.key", folder / f"{name}.pub"
    paths[0].write_bytes(pem_of(private))
    paths[1].write_bytes(
        private.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    return paths


@needs_model_signing
def test_a_signature_is_good_for_the_files_and_the_key(folder: Path, tmp_path: Path) -> None:
    (private, public), (_, stranger) = key_pair(tmp_path, "mine"), key_pair(tmp_path, "other")
    sign(folder, private)
    check_signature(folder, public)
    with pytest.raises(CheckFailed, match=r"bundle\.sig is no signature of this bundle by"):
        check_signature(folder, stranger)
    (folder / "models/model.onnx").write_bytes(b"grape")
    with pytest.raises(CheckFailed, match=r"bundle\.sig is no signature of this bundle by"):
        check_signature(folder, public)


@needs_model_signing
def test_an_added_file_is_not_signed(folder: Path, tmp_path: Path) -> None:
    private, public = key_pair(tmp_path, "mine")
    sign(folder, private)
    (folder / "more.onnx").write_bytes(b"")
    with pytest.raises(CheckFailed, match="is no signature"):
        check_signature(folder, public)


@needs_model_signing
def test_a_bundle_without_a_signature(folder: Path, tmp_path: Path) -> None:
    _, public = key_pair(tmp_path, "mine")
    with pytest.raises(CheckFailed, match="is no signature"):
        check_signature(folder, public)


@needs_model_signing
@pytest.mark.parametrize("content", ["", "{}", "null", "[" * 100_000, '{"payload": "words"}'])
def test_a_signature_that_is_none(folder: Path, tmp_path: Path, content: str) -> None:
    _, public = key_pair(tmp_path, "mine")
    (folder / "bundle.sig").write_text(content)
    with pytest.raises(CheckFailed, match="is no signature"):
        check_signature(folder, public)


@needs_model_signing
def test_a_changed_signature(folder: Path, tmp_path: Path) -> None:
    """Any byte of the signature itself; what else stands in the file need not be signed."""
    private, public = key_pair(tmp_path, "mine")
    sign(folder, private)
    text = (folder / "bundle.sig").read_text()
    start = text.index('"sig":') + len('"sig":"') + 10
    (folder / "bundle.sig").write_text(
        text[:start] + ("A" if text[start] != "A" else "B") + text[start + 1 :]
    )
    with pytest.raises(CheckFailed, match="is no signature"):
        check_signature(folder, public)


@pytest.mark.parametrize("error", [KeyError("verificationMaterial"), RecursionError(), Exception()])
def test_whatever_is_raised_on_a_received_signature_is_a_failed_check(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def raising(*args: object, **options: object) -> None:
        raise error

    modules = MagicMock()
    modules.Config.return_value.use_elliptic_key_verifier = raising
    monkeypatch.setattr("bundling.signing._module", lambda name: modules)
    with pytest.raises(CheckFailed, match=r"is no signature of this bundle by .* \(\S+\)"):
        check_signature(folder, tmp_path / "key")


@needs_model_signing
@pytest.mark.parametrize("kind", ["text", "rsa", "absent"])
def test_a_key_that_is_none(folder: Path, tmp_path: Path, kind: str) -> None:
    from cryptography.hazmat.primitives.asymmetric import rsa

    if kind != "absent":
        key = rsa.generate_private_key(65537, 2048)
        (tmp_path / "key").write_bytes(b"no key" if kind == "text" else pem_of(key))
    for use in (lambda: require_key(tmp_path / "key"), lambda: sign(folder, tmp_path / "key")):
        with pytest.raises(UserError, match="key cannot sign"):
            use()
    assert not (folder / "bundle.sig").exists()


@pytest.mark.parametrize("use", [sign, check_signature, lambda folder, key: require_key(key)])
def test_without_the_package(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, use: object
) -> None:
    for name in (
        "model_signing",
        "model_signing.signing",
        "model_signing.verifying",
        "model_signing.hashing",
    ):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError, match="need the package model-signing, which does not load here"):
        use(folder, tmp_path / "key")  # type: ignore[operator]
