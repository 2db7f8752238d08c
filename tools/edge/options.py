"""The options of edge/CMakeLists.txt: settings that must fail, and pretended SDKs that must be found."""

import shutil
import subprocess
from pathlib import Path

from errors import CheckFailed
from tools.edge.builds import SOURCES

_NOWHERE = "/nonexistent"
# What CMake has to say, and whether it has to fail. ORT and OpenVINO are found through dependencies.cmake.
_CASES: tuple[tuple[tuple[str, ...], bool, str], ...] = (
    (
        ("-DSKIPFOLD_TENSORRT=ON",),
        True,
        "SKIPFOLD_TENSORRT is ON, and TensorRT was not found: set TensorRT_ROOT",
    ),
    (("-DSKIPFOLD_ORT=ON", f"-DONNXRuntime_ROOT={_NOWHERE}"), True, "set ONNXRuntime_ROOT to a folder with"),
    (("-DSKIPFOLD_OPENVINO=yes",), True, "SKIPFOLD_OPENVINO is yes, and must be AUTO, ON or OFF"),
    (("-DSKIPFOLD_OPENVINO=OFF", "-DSKIPFOLD_ORT=OFF"), True, "skipfold needs a runtime"),
    (("-DSKIPFOLD_OPENVINO=OFF",), False, "OPENVINO is left out, because SKIPFOLD_OPENVINO is OFF"),
    ((), False, "TENSORRT is left out, because TensorRT was not found"),
)
_RTX = "#define TRT_MAJOR_ENTERPRISE 10\n#define TRT_MAJOR_RTX 1\n#define TRT_MINOR_RTX 7\n"
_CLASSIC = "#define TRT_MAJOR_ENTERPRISE 10\n#define TRT_MINOR_ENTERPRISE 13\n"
_OLDER = "#define NV_TENSORRT_MAJOR 10 //!< major\n#define NV_TENSORRT_MINOR 3 //!< minor\n"
_CUDA = "set(CUDAToolkit_FOUND TRUE)\nadd_library(CUDA::cudart INTERFACE IMPORTED)\n"
# What NvInferVersion.h says, the library's file, and what CMake has to find.
_SDKS = (
    (_RTX, "libtensorrt_rtx.so", "TensorRT 1.7", "skipfold-tensorrt-rtx"),
    (_CLASSIC, "libnvinfer.so", "TensorRT 10.13", "skipfold-tensorrt"),
    (_OLDER, "libnvinfer.so", "TensorRT 10.3", "skipfold-tensorrt"),
)


def check_options(work: Path) -> str:
    """Configure every case in a fresh folder."""
    for options, fails, text in _CASES:
        _require(work, options, fails, text)
    for header, library, found, target in _SDKS:
        sdk = _pretended_sdk(work / "sdk", header, library)
        options = (f"-DTensorRT_ROOT={sdk}", f"-DCMAKE_MODULE_PATH={sdk}", "-DSKIPFOLD_TENSORRT=ON")
        _require(work, options, False, f"TENSORRT is compiled with {found}\n")
        if f"lib{target}.so" not in (work / "options/build.ninja").read_text():
            raise CheckFailed(
                f"CMake found {found} and does not build {target}", "see edge/cmake/Backends.cmake"
            )
    return f"{len(_CASES)} settings and {len(_SDKS)} pretended SDKs"


def _require(work: Path, options: tuple[str, ...], fails: bool, text: str) -> None:
    folder = work / "options"
    shutil.rmtree(folder, ignore_errors=True)
    command = [
        "cmake",
        "-C",
        work / "dependencies.cmake",
        "-G",
        "Ninja",
        "-S",
        SOURCES,
        "-B",
        folder,
        *options,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    printed = done.stdout + done.stderr
    if (done.returncode != 0) != fails or " ".join(text.split()) not in " ".join(printed.split()):
        wanted = f"{'fail' if fails else 'pass'} and say '{text.strip()}'"
        raise CheckFailed(
            f"with {' '.join(options) or 'no options'} CMake had to {wanted}, and said:\n{printed}",
            "see edge/cmake/Backends.cmake",
        )


def _pretended_sdk(folder: Path, header: str, library: str) -> Path:
    """The files that FindTensorRT looks for, and a CUDA toolkit for it."""
    shutil.rmtree(folder, ignore_errors=True)
    for name, text in {
        "include/NvInfer.h": "",
        "include/NvInferVersion.h": header,
        f"lib/{library}": "",
        "FindCUDAToolkit.cmake": _CUDA,
    }.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder
