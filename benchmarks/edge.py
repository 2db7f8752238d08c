"""The C++ library in figures: sizes, start-up, and latency beside Python's and the runtime's own API.

    make edge
    python benchmarks/edge.py build/edge

`build/edge` is what `make edge` has left. The programs and Python take turns, in three rounds, each on one
thread and one image; the table has the medians of the rounds. The overhead compares skf_infer with the same
call of the runtime's own API, interleaved in one process, and beside it stands what the same comparison gives
for the runtime and itself. Run it on a machine that does nothing else.
"""

import argparse
import json
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.markdown import machine_lines, markdown_table
from bundling.document import ArtifactEntry, BundleDocument
from bundling.received import checked_document
from bundling.trial import artifact_runtime, fitted_pixels
from data.dataset import normalised
from runtimes.timing import latencies

ROUNDS = 3
SECONDS = 3.0
# Of OpenVINO's libraries, those that a bundle needs.
OPENVINO = (
    "libopenvino.so.*",
    "libopenvino_intel_cpu_plugin.so",
    "libopenvino_onnx_frontend.so.*",
    "libtbb.so.12",
)
TIMES = [
    "artifact", "model MB", "first open ms", "open ms", "C++ p50 µs", "p99 µs", "images/s", "Python p50 µs",
    "over the raw API", "the raw API twice",
]  # fmt: skip


@dataclass(frozen=True)
class Round:
    """One round of one artifact: what `skipfold-bench` printed, and Python's median in microseconds."""

    bench: dict
    python_us: float


def main() -> None:
    """Print the sizes and the times as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("work", type=Path, help="the folder that `make edge` has left")
    work = parser.parse_args().work
    print(f"{machine_lines()}\n\n{sizes(work)}\n\n{times(work)}")


def sizes(work: Path) -> str:
    """A table of what has to be shipped, in MB of 10^6 bytes."""
    libraries = work / "prefix/lib"
    document = checked_document(work / "bundle")
    rows = {
        "libskipfold.so": [libraries / "libskipfold.so"],
        "libskipfold-openvino.so": [libraries / "libskipfold-openvino.so"],
        "libskipfold-ort.so": [libraries / "libskipfold-ort.so"],
        f"OpenVINO, {len(OPENVINO)} libraries": _openvino_libraries(),
        "ONNX Runtime, libonnxruntime.so": [work / "onnxruntime/lib/libonnxruntime.so"],
    }
    table = [[name, _megabytes(sum(path.stat().st_size for path in paths))] for name, paths in rows.items()]
    for part in ("models/", "golden/", "sdk/"):
        size = sum(entry.bytes for name, entry in document.files.items() if name.startswith(part))
        table.append([f"bundle, {part}", _megabytes(size)])
    return markdown_table(["what", "MB"], table)


def times(work: Path) -> str:
    """A table of the artifacts that take normalised images."""
    document = checked_document(work / "bundle")
    artifacts = [entry for entry in document.artifacts if entry.input.dtype == "float32"]
    rounds: dict[str, list[Round]] = {artifact.id: [] for artifact in artifacts}
    for _ in range(ROUNDS):
        for artifact in artifacts:
            rounds[artifact.id].append(_round(work, document, artifact))
    return markdown_table(TIMES, [_row(document, entry, rounds[entry.id]) for entry in artifacts])


def _round(work: Path, document: BundleDocument, artifact: ArtifactEntry) -> Round:
    program = work / "gcc/apps/skipfold-bench"
    limits = ["--threads", "1", "--seconds", str(SECONDS)]
    command = [program, work / "bundle", "--artifact", artifact.id, *limits]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return Round(json.loads(printed), _python_us(work / "bundle", document, artifact))


def _python_us(bundle: Path, document: BundleDocument, artifact: ArtifactEntry) -> float:
    pixels = fitted_pixels(bundle, document).transpose(0, 3, 1, 2)
    with artifact_runtime(bundle, artifact, threads=1) as runtime:
        images = normalised(pixels, document.normalise.mean, document.normalise.std)
        return latencies({artifact.id: runtime}, images, 1, SECONDS)[artifact.id].p50_ms * 1000


def _row(document: BundleDocument, artifact: ArtifactEntry, rounds: list[Round]) -> list[str]:
    def median(*keys: str) -> float:
        return statistics.median(_value(one.bench, keys) for one in rounds)

    return [
        artifact.id,
        _megabytes(document.files[artifact.file].bytes),
        f"{median('first_open_without_self_test_ms'):.0f}",
        f"{median('open_ms'):.0f}",
        f"{median('infer', 'p50_us'):.0f}",
        f"{median('infer', 'p99_us'):.0f}",
        f"{median('infer', 'images_per_second'):.0f}",
        f"{statistics.median(one.python_us for one in rounds):.0f}",
        f"{median('overhead_percent', 'skf_infer'):+.1f} %",
        f"{median('overhead_percent', 'same_call_twice'):+.1f} %",
    ]


def _value(printed: dict, keys: tuple[str, ...]) -> float:
    for key in keys:
        printed = printed[key]
    return float(printed)  # type: ignore[arg-type]


def _openvino_libraries() -> list[Path]:
    import openvino

    folder = Path(openvino.__file__).parent / "libs"
    return [next(folder.glob(pattern)) for pattern in OPENVINO]


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.2f}"


if __name__ == "__main__":
    main()
