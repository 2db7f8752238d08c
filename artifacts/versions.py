"""Versions of installed distributions."""

from importlib import metadata

# The same package under another name: ONNX Runtime with CUDA exists for Linux and Windows on x86-64 only.
_ALSO_NAMED = {"onnxruntime": ("onnxruntime-gpu",)}


def version_of(package: str) -> str | None:
    """Version of an installed distribution, or None."""
    for name in (package, *_ALSO_NAMED.get(package, ())):
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return None


def versions_of(packages: tuple[str, ...]) -> dict[str, str]:
    """Versions of those of some distributions that are installed."""
    return {name: version for name in packages if (version := version_of(name)) is not None}
