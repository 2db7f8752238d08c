"""What this machine can train, build and run, and what is missing for the rest.

Every part is tried: a session is opened, a convolution is computed, a network is parsed. A version number or
a list of providers says nothing about a library that does not load: ONNX Runtime lists its CUDA provider on
machines without a driver.
"""

import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from io import StringIO
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from artifacts.versions import version_of
from errors import UserError
from machine.description import Machine, this_machine
from machine.gpu import gpus
from runtimes.tensorrt.fit import rtx_supports
from runtimes.tensorrt.package import BUILDERS, Builder

_LEAST_FREE_BYTES = 2**30


@dataclass(frozen=True)
class Capability:
    """One task: whether it can be done here.

    Attributes:
        provided_by: what was seen to do it, or what went wrong.
        fix: how to mend that; empty where the task can be done.
    """

    task: str
    able: bool
    provided_by: str = ""
    fix: str = ""


def capabilities() -> tuple[Machine, list[Capability]]:
    """Describe the machine, and try every task on it."""
    machine = this_machine()
    tasks: dict[str, Callable[[], str]] = {
        "train on the CPU": partial(_train, "cpu"),
        "train on CUDA": partial(_train, "cuda"),
        "run ort on the CPU": partial(_ort, "CPUExecutionProvider"),
        "run ort on CUDA": partial(_ort, "CUDAExecutionProvider"),
        "run openvino": _openvino,
        **{f"build with {builder.title}": partial(_build, builder) for builder in BUILDERS.values()},
        "run trt": _run_trt,
        "INT8 at full speed on the CPU": partial(_vnni, machine),
        "free disk space": _disk,
    }
    return machine, [_tried(task, attempt) for task, attempt in tasks.items()]


def _tried(task: str, attempt: Callable[[], str]) -> Capability:
    try:
        return Capability(task, True, provided_by=attempt())
    except UserError as error:
        return Capability(task, False, error.problem, error.fix)


def _train(device: str) -> str:
    import torch

    if device == "cuda":
        _require_cuda()
    image = torch.ones(1, 1, 4, 4, device=device)
    torch.nn.functional.conv2d(image, torch.ones(1, 1, 3, 3, device=device)).sum().item()
    where = torch.cuda.get_device_name() if device == "cuda" else torch.backends.cpu.get_cpu_capability()
    return f"torch {torch.__version__}, {where}"


def _ort(provider: str) -> str:
    """Open a session with a provider and run it; ONNX Runtime drops a provider that does not load."""
    try:
        import onnxruntime
    except ImportError as error:
        raise UserError(f"ONNX Runtime does not load ({error})", "pip install onnxruntime-gpu") from error
    if provider not in onnxruntime.get_available_providers():
        raise UserError(f"this ONNX Runtime has no {provider}", "pip install onnxruntime-gpu")
    with _native_log() as log:
        try:
            session = onnxruntime.InferenceSession(_tiny_graph(), providers=[provider])
            session.run(None, {"x": _tiny_image()})
        except Exception as error:
            raise UserError(f"{provider} does not run ({_first_line(error)})", _fix_of(provider)) from error
    if session.get_providers()[0] != provider:
        reason = re.search(r"with error: (.*)", log.getvalue())
        raise UserError(
            f"{provider} does not load ({reason[1] if reason else 'ONNX Runtime gives no reason'})",
            _fix_of(provider),
        )
    return f"onnxruntime {onnxruntime.__version__}, {provider}"


@contextmanager
def _native_log() -> Iterator[StringIO]:
    """Collect what a library prints to standard error by itself, as ONNX Runtime does of a lost provider.

    The text is there when the block has ended.
    """
    collected = StringIO()
    before = os.dup(2)
    with TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        try:
            yield collected
        finally:
            os.dup2(before, 2)
            os.close(before)
            file.seek(0)
            collected.write(file.read().decode(errors="replace"))


def _fix_of(provider: str) -> str:
    if provider == "CPUExecutionProvider":
        return "install ONNX Runtime again"
    return "use a machine with an NVIDIA GPU, CUDA 13 and cuDNN 9"


def _openvino() -> str:
    try:
        import openvino
    except ImportError as error:
        raise UserError(f"OpenVINO does not load ({error})", "pip install openvino") from error
    core = openvino.Core()
    try:
        compiled = core.compile_model(core.read_model(_tiny_graph()), "CPU")
        compiled({"x": _tiny_image()})
    except RuntimeError as error:
        raise UserError(f"OpenVINO does not run here ({_first_line(error)})", "use --engine ort") from error
    name = core.get_property("CPU", "FULL_DEVICE_NAME")
    return f"openvino {version_of('openvino')}, {str(name).strip()}"


def _build(builder: Builder) -> str:
    """Parse a network with a builder; that needs no GPU with TensorRT for RTX."""
    if builder.version is None:
        raise UserError(f"{builder.title} is not installed", f"pip install {builder.package}")
    trt = builder.load()
    if not builder.ahead_of_time:
        _require_gpu()
    logger = _silent_logger(trt)
    trt_builder = trt.Builder(logger)
    network = trt_builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    if not trt.OnnxParser(network, logger).parse(_tiny_graph()):
        raise UserError(f"{builder.title} cannot parse a network", f"install {builder.package} again")
    return f"{builder.package} {builder.version}"


def _run_trt() -> str:
    _require_gpu()
    _require_cuda()
    installed = [builder for builder in BUILDERS.values() if builder.version is not None]
    if not installed:
        raise UserError("no TensorRT is installed", f"pip install {BUILDERS['rtx'].package}")
    for builder in installed:
        if builder.ahead_of_time and not any(rtx_supports(gpu.compute_capability) for gpu in gpus()):
            raise UserError(
                f"{builder.title} has no kernels for {', '.join(gpu.name for gpu in gpus())}",
                "pip install tensorrt, which builds for the GPU of this machine",
            )
        trt = builder.load()
        if trt.Runtime(_silent_logger(trt)) is None:
            raise UserError(f"{builder.title} cannot make a runtime", "update the NVIDIA driver")
    return ", ".join(f"{builder.package} {builder.version}" for builder in installed)


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
    if free < _LEAST_FREE_BYTES:
        raise UserError(f"{free / 2**20:.0f} MiB free here", "free 1 GiB for runs of depth 1001")
    return f"{free / 2**30:.0f} GiB"


def _require_cuda() -> None:
    import torch

    if not torch.cuda.is_available():
        raise UserError("PyTorch sees no CUDA device here", "install a CUDA build of torch")


def _require_gpu() -> None:
    if not gpus():
        raise UserError("no NVIDIA driver or GPU", "use a machine that has one")


@cache
def _tiny_graph() -> bytes:
    """An ONNX file of one convolution, `x` [1, 1, 4, 4] to `y`."""
    from onnx import parser

    model = parser.parse_model(
        '<ir_version: 10, opset_import: ["": 20]>'
        "tiny (float[1, 1, 4, 4] x) => (float[1, 1, 2, 2] y)"
        "<float[1, 1, 3, 3] w = {1, 1, 1, 1, 1, 1, 1, 1, 1}> { y = Conv (x, w) }"
    )
    return model.SerializeToString()


def _tiny_image() -> Any:
    import numpy as np

    return np.ones((1, 1, 4, 4), np.float32)


def _silent_logger(trt: Any) -> Any:
    class Silent(trt.ILogger):  # type: ignore[misc, name-defined]
        """TensorRT's own logger prints to standard output, where JSON may stand."""

        def log(self, severity: Any, message: str) -> None:
            """Forget the message."""

    return Silent()


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
