"""Bring to a machine what edge/ is built from, and write down where it lies.

    python -m tools.edge.dependencies build/edge
    cmake -C build/edge/dependencies.cmake -S edge -B build/edge/gcc

Compilers and headers come from the system's package manager (`packages.py`), OpenVINO's headers and
CMake configuration from its wheel, ONNX Runtime from its wheel and a Debian package
(`onnxruntime_files.py`). The second run finds everything and takes two seconds.
"""

import argparse
import os
import sys
from pathlib import Path

from errors import UserError
from tools.edge.onnxruntime_files import lay_out
from tools.edge.packages import install_packages


def main() -> None:
    """Install, lay out, and write FOLDER/dependencies.cmake."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder for ONNX Runtime's files and dependencies.cmake")
    arguments = parser.parse_args()
    try:
        print(bring(arguments.folder.resolve()))
    except UserError as error:
        sys.exit(f"error: {error.problem}\n  fix: {error.fix}")


def bring(folder: Path) -> Path:
    """Bring everything, and return the file of CMake variables that says where it lies."""
    if installed := install_packages():
        print(f"installed {', '.join(installed)}")
    include = os.environ.get("ONNXRUNTIME_INCLUDE")
    lay_out(folder / "onnxruntime", Path(include) if include else None)
    return _write_variables(folder)


def _write_variables(folder: Path) -> Path:
    """An initial cache for `cmake -C`: where the two runtimes lie."""
    variables = {"OpenVINO_DIR": openvino_configuration(), "ONNXRuntime_ROOT": folder / "onnxruntime"}
    file = folder / "dependencies.cmake"
    file.write_text("".join(f'set({name} "{value}" CACHE PATH "")\n' for name, value in variables.items()))
    return file


def openvino_configuration() -> Path:
    """The folder of OpenVINOConfig.cmake in the installed wheel."""
    import openvino

    return Path(openvino.__file__).parent / "cmake"


if __name__ == "__main__":
    main()
