"""What this machine can train, build and run, and what is missing for the rest."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from artifacts.versions import version_of
from errors import UserError
from machine.description import Machine, this_machine
from machine.gpu import gpus
from runtimes.tensorrt.package import BUILDERS


@dataclass(frozen=True)
class Capability:
    """One task: whether it can be done here, with what, and otherwise how to mend that."""

    task: str
    able: bool
    provided_by: str = ""
    fix: str = ""


def capabilities() -> tuple[Machine, list[Capability]]:
    """Try each part by loading it; nothing is concluded from a version number alone."""
    machine = this_machine()
    found = [
        _tried("train on the CPU", _train_cpu),
        _tried("train on CUDA", _train_cuda),
        _tried("run ort on the CPU", lambda: _ort("CPUExecutionProvider")),
        _tried("run ort on CUDA", lambda: _ort("CUDAExecutionProvider")),
        _tried("run openvino", _openvino),
        *[_tried(f"build with {b.title}", partial(_builder, b.name)) for b in BUILDERS.values()],
        _tried("run trt", _trt),
        _tried("INT8 at full speed on the CPU", lambda: _vnni(machine)),
        _tried("free disk space", _disk),
    ]
    return machine, found


def _tried(task: str, attempt: Callable[[], str]) -> Capability:
    try:
        return Capability(task, True, provided_by=attempt())
    except UserError as error:
        return Capability(task, False, error.problem, error.fix)


def _train_cpu() -> str:
    import torch

    return f"torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}"


def _train_cuda() -> str:
    import torch

    _require_cuda()
    return f"torch {torch.__version__}, {torch.cuda.get_device_name()}"


def _ort(provider: str) -> str:
    import onnxruntime

    present = onnxruntime.get_available_providers()
    if provider not in present:
        raise UserError(f"this ONNX Runtime has no {provider}", "pip install onnxruntime-gpu")
    if provider == "CUDAExecutionProvider":
        _require_gpu()
    return f"onnxruntime {onnxruntime.__version__}"


def _openvino() -> str:
    try:
        import openvino
    except ImportError as error:
        raise UserError("not installed", "pip install openvino") from error
    core = openvino.Core()
    return f"openvino {version_of('openvino')}, {', '.join(core.available_devices)}"


def _builder(name: str) -> str:
    builder = BUILDERS[name]
    if builder.version is None:
        raise UserError("not installed", f"pip install {builder.package}")
    builder.load()
    if not builder.ahead_of_time:
        _require_gpu()
    return f"{builder.package} {builder.version}"


def _trt() -> str:
    _require_gpu()
    _require_cuda()
    installed = [b for b in BUILDERS.values() if b.version is not None]
    if not installed:
        raise UserError("no TensorRT is installed", f"pip install {BUILDERS['rtx'].package}")
    return ", ".join(f"{b.package} {b.version}" for b in installed)


def _vnni(machine: Machine) -> str:
    fast = [name for name in machine.instruction_sets if name in ("AVX-VNNI", "AVX512-VNNI", "AMX")]
    if not fast:
        raise UserError(
            "this CPU has no VNNI or AMX: INT8 gains less over float32",
            "measure with `benchmark` before choosing INT8",
        )
    return ", ".join(fast)


def _disk() -> str:
    free = shutil.disk_usage(Path.cwd()).free
    if free < 2**30:
        raise UserError(f"{free / 2**20:.0f} MiB free here", "free 1 GiB for runs of depth 1001")
    return f"{free / 2**30:.0f} GiB"


def _require_cuda() -> None:
    import torch

    if not torch.cuda.is_available():
        raise UserError("PyTorch sees no CUDA device here", "install a CUDA build of torch")


def _require_gpu() -> None:
    if not gpus():
        raise UserError("no NVIDIA driver or GPU", "use a machine that has one")
