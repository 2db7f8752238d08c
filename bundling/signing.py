"""Signatures of bundles, through the package `model-signing` (the OpenSSF Model Signing specification).

The hashes in bundle.json prove that no file was changed by accident. Who wrote the bundle is proved by a
signature, or by the sha256 of bundle.json from a channel that one trusts. `bundle.sig` signs every other file
of the folder with a private key on an elliptic curve, and needs no network.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bundling.document import SIGNATURE
from errors import CheckFailed, UserError


def sign(folder: Path, private_key: Path) -> None:
    """Write bundle.sig into the folder of a bundle.

    Raises:
        UserError: `model-signing` is not installed, or the key cannot be used.
    """
    with _key_errors(private_key):
        _signer(private_key).set_hashing_config(_hashing(folder)).sign(folder, folder / SIGNATURE)


def require_key(private_key: Path) -> None:
    """Require a key that can sign; raises as `sign` does, and writes nothing."""
    with _key_errors(private_key):
        _signer(private_key)


def _signer(private_key: Path) -> Any:
    return _module("signing").Config().use_elliptic_key_signer(private_key=private_key)


@contextmanager
def _key_errors(private_key: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, TypeError, AttributeError) as error:
        # The last one comes of keys on no curve, such as RSA.
        raise UserError(
            f"{private_key} cannot sign ({error})",
            "give --sign a private key in PEM format: openssl ecparam -name prime256v1 -genkey -noout",
        ) from error


def check_signature(folder: Path, public_key: Path) -> None:
    """Raise CheckFailed unless bundle.sig signs the folder of a bundle with this key's private half.

    Raises:
        UserError: `model-signing` is not installed.
    """
    config, hashing = _module("verifying").Config(), _hashing(folder)
    try:
        config = config.use_elliptic_key_verifier(public_key=public_key)
        config.set_hashing_config(hashing).verify(folder, folder / SIGNATURE)
    except Exception as error:
        # Both files were received, and on what is in them `model-signing` and the packages below raise errors
        # of many types: KeyError on "{}", InvalidSignature of `cryptography` on a changed byte.
        reason = str(error) or type(error).__name__
        raise CheckFailed(
            f"{folder / SIGNATURE} is no signature of this bundle by {public_key} ({reason})",
            "ask whoever sent the bundle for their key",
        ) from error


def _hashing(folder: Path) -> Any:
    return _module("hashing").Config().set_ignored_paths(paths=[folder / SIGNATURE], ignore_git_paths=False)


def _module(name: str) -> Any:
    from importlib import import_module

    try:
        return import_module(f"model_signing.{name}")
    except ImportError as error:
        raise UserError(
            f"signatures need the package model-signing, which does not load here ({error})",
            "pip install model-signing pyopenssl",
        ) from error
