import sys
from collections import namedtuple
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import onnxruntime
import pytest
import torch

from errors import UserError
from machine.description import this_machine
from machine.gpu import Gpu, GpuState
from runtimes.tensorrt.package import BUILDERS, Builder
from workflow import doctor
from workflow.doctor import Capability, capabilities

L4 = Gpu("NVIDIA L4", 89)
H100 = Gpu("NVIDIA H100", 90)
Usage = namedtuple("Usage", "total used free")


def _found(task: str) -> Capability:
    (capability,) = (c for c in capabilities()[1] if c.task == task)
    return capability


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "gpus", list)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.fixture
def gpu_without_cuda_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "gpus", lambda: [L4])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def test_every_task_is_able_with_something_or_says_what_is_missing_and_how_to_mend_it() -> None:
    machine, found = capabilities()
    assert machine == this_machine()
    assert len({capability.task for capability in found}) == len(found)
    for capability in found:
        assert capability.provided_by, capability.task
        assert bool(capability.fix) != capability.able, capability.task


def test_what_these_tests_run_on_is_able() -> None:
    able = {capability.task for capability in capabilities()[1] if capability.able}
    assert {"train on the CPU", "run ort on the CPU", "run openvino"} <= able
    assert f"torch {torch.__version__}" in _found("train on the CPU").provided_by
    assert _found("run ort on the CPU").provided_by == (
        f"onnxruntime {onnxruntime.__version__}, CPUExecutionProvider"
    )


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize(
    "task",
    ["train on CUDA", "run ort on CUDA", "run ort-trt", "run ort-rtx", "run trt", "build with TensorRT"],
)
def test_without_a_gpu_what_needs_one_is_not_able(task: str) -> None:
    capability = _found(task)
    assert not capability.able
    assert capability.fix


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.skipif(not BUILDERS["rtx"].is_installed, reason="tensorrt-rtx is not installed")
def test_tensorrt_for_rtx_builds_without_a_gpu() -> None:
    assert _found("build with TensorRT for RTX").able


@pytest.mark.usefixtures("gpu_without_cuda_torch")
@pytest.mark.parametrize("task", ["train on CUDA", "run trt"])
def test_pytorch_without_cuda_is_what_is_missing_beside_a_gpu(task: str) -> None:
    capability = _found(task)
    assert not capability.able
    assert "CUDA build of torch" in capability.fix


class FakeTensorRt:
    """What `doctor` asks of the module; `runtime` stands for the class `Runtime`."""

    class ILogger:
        pass

    __version__ = "10.8"

    def __init__(self, runtime: Callable[[object], object] = lambda logger: object()) -> None:
        self.Runtime = runtime


def no_runtime(logger: object) -> None:
    """The binding of a C++ class, where the library could not make the object and logged why."""
    logger.errors.append("CUDA initialization failure with error: 35")  # type: ignore[attr-defined]
    raise TypeError("pybind11::init(): factory function returned nullptr")


@pytest.fixture
def set_tensorrt(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A machine with a CUDA build of PyTorch, some GPUs, and some packages of TensorRT."""

    def set_to(*devices: Gpu, **packages: FakeTensorRt) -> None:
        monkeypatch.setattr(doctor, "gpus", lambda: list(devices))
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(Builder, "is_installed", property(lambda builder: builder.name in packages))
        monkeypatch.setattr(Builder, "version", property(lambda builder: packages[builder.name].__version__))
        monkeypatch.setattr(Builder, "load", lambda builder: packages[builder.name])

    return set_to


def test_gpu_with_a_tensorrt_runs_trt(set_tensorrt: Callable[..., None]) -> None:
    set_tensorrt(L4, rtx=FakeTensorRt())
    assert doctor._run_trt() == "tensorrt-rtx 10.8, NVIDIA L4"
    set_tensorrt(H100, tensorrt=FakeTensorRt())
    assert doctor._run_trt() == "tensorrt 10.8, NVIDIA H100"


def test_gpu_without_a_tensorrt_for_it_runs_no_trt(set_tensorrt: Callable[..., None]) -> None:
    set_tensorrt(L4)
    with pytest.raises(UserError, match="no TensorRT is installed"):
        doctor._run_trt()
    set_tensorrt(H100, rtx=FakeTensorRt())
    with pytest.raises(UserError, match="no kernels for NVIDIA H100: pip install tensorrt"):
        doctor._run_trt()


@pytest.mark.parametrize(
    ("runtime", "reason"),
    [(no_runtime, "CUDA initialization failure with error: 35"), (lambda logger: None, "no reason is given")],
)
def test_tensorrt_that_makes_no_runtime_says_why(
    set_tensorrt: Callable[..., None], runtime: Callable[[object], object], reason: str
) -> None:
    set_tensorrt(L4, tensorrt=FakeTensorRt(runtime))
    with pytest.raises(UserError, match=rf"TensorRT makes no runtime \({reason}\): update the NVIDIA driver"):
        doctor._run_trt()


def test_one_of_two_packages_is_enough_and_the_other_is_named(set_tensorrt: Callable[..., None]) -> None:
    set_tensorrt(H100, rtx=FakeTensorRt(), tensorrt=FakeTensorRt())
    assert doctor._run_trt() == (
        "TensorRT for RTX has no kernels for NVIDIA H100; tensorrt 10.8, NVIDIA H100"
    )


def test_builder_that_cannot_be_made_is_not_able(
    set_tensorrt: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = FakeTensorRt()
    monkeypatch.setattr(broken, "Builder", no_runtime, raising=False)
    set_tensorrt(L4, tensorrt=broken)
    with pytest.raises(UserError, match=r"cannot parse a network \(CUDA initialization failure"):
        doctor._build(BUILDERS["tensorrt"])


def test_gpu_that_pytorch_has_no_kernels_for_is_not_able(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_kernels(*arguments: object, **options: object) -> None:
        raise RuntimeError("CUDA error: no kernel image is available for execution on the device\nand more")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch, "ones", no_kernels)
    capability = _found("train on CUDA")
    assert not capability.able
    assert capability.provided_by.endswith(
        "(CUDA error: no kernel image is available for execution on the device)"
    )
    assert "kernels for this GPU" in capability.fix


def test_a_runtime_that_computes_nothing_is_not_able(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("illegal instruction\nand more")

    monkeypatch.setattr(onnxruntime, "InferenceSession", broken)
    monkeypatch.setattr("openvino.Core.compile_model", broken)
    assert "does not run (illegal instruction)" in _found("run ort on the CPU").provided_by
    assert "does not run here (illegal instruction)" in _found("run openvino").provided_by


@pytest.mark.parametrize("name", BUILDERS)
def test_builder_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(Builder, "is_installed", False)
    builder = BUILDERS[name]
    capability = _found(f"build with {builder.title}")
    assert (capability.able, capability.provided_by) == (False, f"{builder.title} is not installed")
    assert capability.fix == f"pip install {builder.package}"


def test_builder_whose_libraries_do_not_load_is_not_able(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The package is there, so `doctor` does not say that it is missing."""
    message = "libtensorrt_rtx.so: cannot open shared object file"
    (tmp_path / "tensorrt_rtx.py").write_text(f"raise OSError({message!r})\n")
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.split(".")[0] == "tensorrt_rtx"]:
        monkeypatch.delitem(sys.modules, name)
    capability = _found("build with TensorRT for RTX")
    assert not capability.able
    assert capability.provided_by == f"TensorRT for RTX cannot be imported ({message})"


@pytest.mark.parametrize(
    ("state", "able", "told"),
    [
        (GpuState(1980, 2619, 412.5, 61), True, "1980 MHz, 412 W, 61 °C"),
        (GpuState(1980, 2619, None, 61), True, "1980 MHz, 61 °C"),
        ("NVML does not load (Driver Not Loaded)", False, "NVML does not load (Driver Not Loaded)"),
    ],
)
def test_clocks_of_a_gpu_are_read_or_the_reason_is_told(
    monkeypatch: pytest.MonkeyPatch, state: GpuState | str, able: bool, told: str
) -> None:
    monkeypatch.setattr(doctor, "gpus", lambda: [L4])
    monkeypatch.setattr(doctor, "gpu_state_or_reason", lambda index: state)
    capability = doctor._tried("read clocks and power of a GPU", doctor._gpu_clocks)
    assert (capability.able, capability.provided_by) == (able, told)


def test_missing_openvino_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    capability = _found("run openvino")
    assert not capability.able
    assert capability.provided_by.startswith("OpenVINO does not load")
    assert capability.fix == "pip install openvino"


@pytest.mark.parametrize(
    ("instruction_sets", "able"),
    [
        (("AVX2",), False),
        (("AVX2", "AVX512"), False),
        (("AVX2", "AVX512", "AVX512-VNNI"), True),
        (("AMX",), True),
    ],
)
def test_int8_is_fast_where_the_cpu_has_instructions_for_it(
    monkeypatch: pytest.MonkeyPatch, instruction_sets: tuple[str, ...], able: bool
) -> None:
    machine = replace(this_machine(), instruction_sets=instruction_sets)
    monkeypatch.setattr(doctor, "this_machine", lambda: machine)
    assert _found("INT8 at full speed on the CPU").able == able


@pytest.mark.parametrize(("free", "able"), [(2**30 - 1, False), (2**30, True)])
def test_a_gibibyte_of_disk_is_asked_for(monkeypatch: pytest.MonkeyPatch, free: int, able: bool) -> None:
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: Usage(2**40, 0, free))
    assert _found("free disk space").able == able


def test_bug_in_a_check_is_not_taken_for_a_missing_part(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(builder: Builder) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Builder, "load", broken)
    monkeypatch.setattr(Builder, "is_installed", True)
    with pytest.raises(ZeroDivisionError):
        capabilities()
