"""Build edge/consumer as projects of other people do, and compare what the programs print with the bundle.

package     find_package from an installation prefix
build tree  find_package from the build tree, without an installation
python      find_package from the folder that `skipfold sdk --cmake-dir` prints, which compiles the sources
sources     FetchContent with SOURCE_DIR, which compiles the sources as well
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

from errors import CheckFailed
from tools.edge.builds import BOTH_BACK_ENDS, GCC, SOURCES
from tools.edge.steps import ROOT, run

_PROGRAMS = ("consumer-c", "consumer-cpp")


def check_consumers(work: Path) -> str:
    """Install the library, build the project in each way, and run it on every artifact of the bundle."""
    prefix = work / "prefix"
    run(["cmake", "--install", work / GCC.name, "--prefix", prefix], work / "install.log")
    ways = {
        "package": (f"-DCMAKE_PREFIX_PATH={prefix}",),
        "build-tree": (f"-Dskipfold_DIR={work / GCC.name}",),
        "python": ("-C", str(work / "dependencies.cmake"), f"-Dskipfold_DIR={_sdk(work)}", *BOTH_BACK_ENDS),
        "sources": (
            "-C", str(work / "dependencies.cmake"), f"-DSKIPFOLD_SOURCES={SOURCES}", *BOTH_BACK_ENDS,
        ),
    }  # fmt: skip
    for way, options in ways.items():
        _build(work / f"consumer-{way}", work, options)
        _require_golden_classes(work / f"consumer-{way}", work)
    return f"{len(ways)} ways, {len(_PROGRAMS)} programs each"


def _sdk(work: Path) -> Path:
    printed = run([sys.executable, ROOT / "cli.py", "sdk", "--cmake-dir"], work / "sdk.log")
    return Path(printed.strip())


def _build(folder: Path, work: Path, options: tuple[str, ...]) -> None:
    command = ["cmake", "-G", "Ninja", "-S", SOURCES / "consumer", "-B", folder, *options]
    run([*command, "-DCMAKE_BUILD_TYPE=Release"], work / f"{folder.name}.configure.log")
    run(["cmake", "--build", folder], work / f"{folder.name}.build.log")


def _require_golden_classes(folder: Path, work: Path) -> None:
    bundle = work / "bundle"
    document = json.loads((bundle / "bundle.json").read_text())
    expected = [document["classes"][label] for label in document["golden"]["labels"]]
    for program in _PROGRAMS:
        for artifact in artifacts_for_cpus(document):
            printed = run([folder / program, bundle, artifact], work / f"{folder.name}.run.log")
            if printed.splitlines() != expected:
                raise CheckFailed(
                    f"{folder / program} gives the golden pictures other classes with {artifact}:\n{printed}",
                    f"expected are {' '.join(expected)}",
                )


def artifacts_for_cpus(document: dict) -> Iterator[str]:
    """The ids of the artifacts that run without a GPU."""
    for artifact in document["artifacts"]:
        if artifact["format"] == "onnx":
            yield artifact["id"]
