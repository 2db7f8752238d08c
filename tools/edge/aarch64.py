"""Cross-compile the library for aarch64, and run its golden tests in an emulator.

ONNX Runtime is the only back end, because bundles offer OpenVINO's artifacts to x86-64 alone. apps/ is left
out, because no libpng and no libjpeg come with Debian's cross-compiler. The bundle was verified on this
machine, so its golden logits are those of another CPU.
"""

import re
from pathlib import Path

from errors import CheckFailed, UserError
from tools.edge.builds import SOURCES, Build, compile_build, ctest_line, run_tests
from tools.edge.emulator import find_emulator
from tools.edge.onnxruntime_aarch64 import lay_out_aarch64

# Where g++-aarch64-linux-gnu keeps the C and C++ libraries that programs for aarch64 load.
SYSROOT = Path("/usr/aarch64-linux-gnu")
# The processor of a Raspberry Pi 5. QEMU's own choice also has SVE and SME, and with it ONNX Runtime took
# more than twice as long for the float32 graph.
PROCESSOR = "cortex-a76"
_DISTANCE = re.compile(r"MESSAGE: (\S+ on .*: \S+ dB) from")


def check_aarch64(work: Path) -> str:
    """Compile, and run the tests where an emulator stands on the path or can be fetched."""
    lay_out_aarch64(work / "onnxruntime-aarch64", work / "onnxruntime/include")
    try:
        emulator = find_emulator(work / "qemu")
    except UserError as error:
        compile_build(_build(work, ""), work)
        return f"compiled; golden_tests are skipped, because {error.problem} (fix: {error.fix})"
    build = _build(work, f"{emulator.program};-cpu;{PROCESSOR};-L;{SYSROOT}")
    compile_build(build, work)
    passed = ctest_line(run_tests(build, work))
    log = (work / build.name / "Testing/Temporary/LastTest.log").read_text(errors="replace")
    return f"{passed}, a {PROCESSOR} emulated by QEMU {emulator.version}: {distances(log)}"


def _build(work: Path, emulator: str) -> Build:
    options = (
        f"-DCMAKE_TOOLCHAIN_FILE={SOURCES / 'cmake/aarch64-linux-gnu.cmake'}",
        f"-DCMAKE_CROSSCOMPILING_EMULATOR={emulator}",
        f"-DONNXRuntime_ROOT={work / 'onnxruntime-aarch64'}",
        "-DSKIPFOLD_ORT=ON",
        "-DSKIPFOLD_OPENVINO=OFF",
        "-DSKIPFOLD_TENSORRT=OFF",
        "-DSKIPFOLD_BUILD_APPS=OFF",
    )
    return Build("aarch64", options, targets=("bundle_tests",), tests="^golden_tests$")


def distances(log: str) -> str:
    """What the golden tests say of each artifact: how far its logits are from those of Python.

    Raises:
        CheckFailed: they say nothing, so none of them has run.
    """
    found = _DISTANCE.findall(log)
    if not found:
        raise CheckFailed("golden_tests passed without a word about an artifact", "see edge/tests")
    return "; ".join(found)
