"""What the libraries of a changed environment find, and what they then compute."""

import json
import os
import shutil
import signal
import subprocess
import sys
import venv
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from saturating_samples import exact_sums, hot_convolution, of_integer_convolutions

from graphs.saturation import FREE, SATURATES, saturation_findings
from tools.without_vnni import copy_of, hide_cpuid, link, preloaded, what_is_missing

# In an environment that is already changed, no library asks cpuid any more.
UNFIT = what_is_missing() or (
    "without_vnni" in os.environ.get("LD_PRELOAD", "") and "this is a changed environment"
)
pytestmark = pytest.mark.skipif(bool(UNFIT), reason=UNFIT or "nothing is missing")

ASKS = """
#include <cpuid.h>
void ask(unsigned leaf, unsigned part, unsigned *found) {
    __cpuid_count(leaf, part, found[0], found[1], found[2], found[3]);
}
void trap(void) { __builtin_trap(); }
"""
CALLS = """
import ctypes, json, sys
library = ctypes.CDLL(sys.argv[1])
found = (ctypes.c_uint * 4)()
answers = {}
for leaf, part in ((0, 0), (7, 0), (7, 1)):
    library.ask(leaf, part, found)
    answers[f"{leaf}.{part}"] = list(found)
print(json.dumps(answers), flush=True)
if "trap" in sys.argv:
    library.trap()
"""
# Leaf 7: by register, the bits of what multiplies 8-bit integers otherwise than AVX2.
AVX2, AVX512F, AVX512_VNNI, AVX_VNNI = 1 << 5, 1 << 16, 1 << 11, 1 << 4

RUNS = """
import sys
import numpy as np
runtime, model, inputs, outputs = sys.argv[1:]
images = dict(np.load(inputs))
if runtime == "ort":
    import onnxruntime
    assert onnxruntime.__file__.startswith(sys.prefix), onnxruntime.__file__
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    found = session.run(None, images)
else:
    import openvino
    assert openvino.__file__.startswith(sys.prefix), openvino.__file__
    compiled = openvino.Core().compile_model(model, "CPU")
    returned = compiled(images)
    found = [returned[f"y{number}"] for number in range(len(images))]
np.savez(outputs, *found)
"""


@pytest.fixture(scope="module")
def asking(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("asking")
    (folder / "asks.c").write_text(ASKS)
    library = folder / "asks.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, folder / "asks.c"], check=True)
    return library


def asked(library: Path, preload: Path | None, *options: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | ({"LD_PRELOAD": str(preload)} if preload else {})
    # pytest turns faulthandler on, which listens for the same signal.
    command = [sys.executable, "-X", "faulthandler", "-c", CALLS, str(library), *options]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)


def answers(library: Path, preload: Path | None = None) -> dict[str, list[int]]:
    done = asked(library, preload)
    done.check_returncode()
    return json.loads(done.stdout)


def test_what_is_not_vnni_is_answered_as_the_cpu_does(asking: Path, tmp_path: Path) -> None:
    changed = tmp_path / "changed.so"
    os.link(asking, changed)
    before = asking.read_bytes()
    assert hide_cpuid(changed) == 1
    assert asking.read_bytes() == before
    assert os.access(changed, os.X_OK)
    real, found = answers(asking), answers(changed, preloaded(tmp_path))
    assert found["0.0"] == real["0.0"]
    for part, registers in real.items():
        # Nothing is there that is not.
        assert all(new & ~old == 0 for new, old in zip(found[part], registers, strict=True))
    assert found["7.0"][1] & AVX2 == real["7.0"][1] & AVX2
    assert found["7.0"][1] & AVX512F == found["7.0"][2] & AVX512_VNNI == found["7.1"][0] & AVX_VNNI == 0
    # Of an instruction set that stays, no bit is lost: RDSEED, ADX, SHA in EBX; GFNI, VAES in ECX.
    for register, kept in ((1, 1 << 18 | 1 << 19 | 1 << 29 | AVX2), (2, 1 << 8 | 1 << 9)):
        assert found["7.0"][register] & kept == real["7.0"][register] & kept


@pytest.fixture
def changed(asking: Path, tmp_path: Path) -> Path:
    library = Path(shutil.copy2(asking, tmp_path / "changed.so"))
    hide_cpuid(library)
    return library


def test_another_undefined_instruction_is_as_fatal_as_ever(changed: Path, tmp_path: Path) -> None:
    done = asked(changed, preloaded(tmp_path), "trap")
    assert json.loads(done.stdout)
    assert done.returncode == -signal.SIGILL


def test_without_the_preloaded_library_nothing_runs(changed: Path) -> None:
    """Rather than with answers that are not meant."""
    done = asked(changed, None)
    assert (done.returncode, done.stdout) == (-signal.SIGILL, "")


def small_environment(folder: Path, *packages: str) -> Path:
    """With links to these packages, and all the rest from this environment."""
    venv.create(folder, symlinks=True)
    (own,) = folder.glob("lib/python*/site-packages")
    here = Path(onnxruntime.__file__).parents[1]
    unneeded = shutil.ignore_patterns("lib*cuda*", "lib*tensorrt*", "lib*gpu*", "lib*npu*")
    for name in packages:
        shutil.copytree(here / name, own / name, ignore=unneeded, copy_function=link)
    (own / "rest.pth").write_text(f"{here}\n")
    return folder


def test_environment_without_one_of_the_libraries_is_refused(asking: Path, tmp_path: Path) -> None:
    """Figures of such an environment would be taken for those of an unchanged one."""
    environment = tmp_path / "small"
    venv.create(environment, symlinks=True)
    (own,) = environment.glob("lib/python*/site-packages")
    (own / "openvino" / "libs").mkdir(parents=True)
    # A library of one function stands for each of OpenVINO's, because it is disassembled in no time.
    for name in ("libopenvino.so.1", "libopenvino_intel_cpu_plugin.so"):
        shutil.copy2(asking, own / "openvino" / "libs" / name)
    assert copy_of(environment, tmp_path / "of openvino", ("openvino",)).is_file()
    with pytest.raises(RuntimeError, match=r"onnxruntime/capi/.* is not there"):
        copy_of(environment, tmp_path / "changed", ("openvino", "onnxruntime"))
    assert not (tmp_path / "changed").exists()


@pytest.fixture(scope="module")
def interpreter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("environment")
    packages = ("onnxruntime", "openvino")
    return copy_of(small_environment(folder / "small", *packages), folder / "changed", packages)


@pytest.mark.parametrize("runtime", ["ort", "openvino"])
def test_runtimes_without_vnni_saturate_where_the_check_says_so_and_nowhere_else(
    interpreter: Path, tmp_path: Path, runtime: str
) -> None:
    samples = [hot_convolution(limit, seed) for limit in (127, 90, 64, 32) for seed in range(10)]
    model = of_integer_convolutions([weight for weight, _ in samples])
    onnx.save(model, tmp_path / "model.onnx")
    np.savez(tmp_path / "inputs.npz", **{f"x{n}": activation for n, (_, activation) in enumerate(samples)})
    command = [
        interpreter,
        "-c",
        RUNS,
        runtime,
        *(tmp_path / n for n in ("model.onnx", "inputs.npz", "y.npz")),
    ]
    subprocess.run(command, check=True, timeout=120, cwd=tmp_path)
    with np.load(tmp_path / "y.npz") as returned:
        found = [returned[f"arr_{number}"] for number in range(len(samples))]
    wrong = [bool((y != exact_sums(*sample)).any()) for y, sample in zip(found, samples, strict=True)]
    verdicts = [finding.verdict for finding in saturation_findings(ir.from_proto(model))]
    by_verdict = {
        verdict: [is_wrong for is_wrong, own in zip(wrong, verdicts, strict=True) if own == verdict]
        for verdict in (FREE, SATURATES)
    }
    assert len(by_verdict[FREE]) == len(by_verdict[SATURATES]) == 20
    assert not any(by_verdict[FREE])
    # So hot are these that each of them does.
    assert all(by_verdict[SATURATES])
