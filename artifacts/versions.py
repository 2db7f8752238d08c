"""Versions of installed distributions."""

from importlib import metadata


def version_of(package: str) -> str | None:
    """Version of an installed distribution, or None."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def versions_of(packages: tuple[str, ...]) -> dict[str, str]:
    """Versions of the installed ones of some distributions."""
    return {name: version for name in packages if (version := version_of(name)) is not None}
