"""The C++ library, whose sources lie in the checkout and in the installed package alike."""

from pathlib import Path

from errors import UserError

_SOURCES = Path(__file__).resolve().parents[1] / "edge"
# What a program needs that is built with the library; the tests stay in the checkout.
_PARTS = ("CMakeLists.txt", "cmake", "include", "src", "apps", "examples")


def sources() -> Path:
    """The folder of the library's CMakeLists.txt.

    Raises:
        UserError: the package was installed without the sources.
    """
    if not (_SOURCES / "CMakeLists.txt").is_file():
        raise UserError(f"{_SOURCES} does not hold the sources of the C++ library", "install skipfold again")
    return _SOURCES


def cmake_folder() -> Path:
    """The folder whose skipfoldConfig.cmake compiles the sources in the build tree that asks for them."""
    return sources() / "cmake/sdk"


def source_files() -> dict[str, bytes]:
    """The content of every source file, by its path in the folder `sdk` of a bundle."""
    folder = sources()
    paths = [path for part in _PARTS for path in (folder / part, *(folder / part).rglob("*"))]
    return {
        f"sdk/{path.relative_to(folder).as_posix()}": path.read_bytes() for path in paths if path.is_file()
    }
