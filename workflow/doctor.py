"""What this machine can train, build and run, and what is missing for the rest.

Every part is tried: a session is opened, a convolution is computed, a network is parsed. Version numbers and
lists of providers are not enough, because ONNX Runtime lists its CUDA provider on machines without a driver,
where the provider's library does not load.
"""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

from artifacts.versions import version_of
from errors import UserError
from machine.description import Machine, this_machine
from machine.gpu import Gpu, gpu_state_or_reason, gpus
from runtimes.native_output import native_output
from runtimes.ort_providers import CUDA, RTX, TENSORRT, Provider, session_on_gpu
from runtimes.tensorrt.collecting_logger import collecting_logger
from runtimes.tensorrt.fit import rtx_supports
from runtimes.tensorrt.package import BUILDERS, Builder

_LEAST_FREE_BYTES = 2**30
_ORT_AGAIN = "install ONNX Runtime again"


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

    @property
    def answer(self) -> str:
        """In one line: what does it, or what is missing and how to mend that."""
        return f"{self.provided_by}: {self.fix}" if self.fix else self.provided_by


def capabilities() -> tuple[Machine, list[Capability]]:
    """Describe the machine, and try every task on it."""
    machine = this_machine()
    tasks: dict[str, Callable[[], str]] = {
        "train on the CPU": partial(_train, "cpu"),
        "train on CUDA": partial(_train, "cuda"),
        "run ort on the CPU": _ort_on_cpu,
        "run ort on CUDA": partial(_ort_on_gpu, CUDA),
        "run ort-trt": partial(_ort_on_gpu, TENSORRT),
        "run ort-rtx": partial(_ort_on_gpu, RTX),
        "run openvino": _openvino,
        **{f"build with {builder.title}": partial(_build, builder) for builder in BUILDERS.values()},
        "run trt": _run_trt,
        "read clocks and power of a GPU": _gpu_clocks,
        "INT8 at full speed on the CPU": partial(_vnni, machine),
        "free disk space": _disk,
    }
    return machine, [_tried(task, attempt) for task, attempt in tasks.items()]


def _tried(task: str, attempt: Callable[[], str]) -> Capability:
    try:
        with native_output():
            return Capability(task, True, provided_by=attempt())
    except UserError as error:
        return Capability(task, False, error.problem, error.fix)


def _train(device: str) -> str:
    import torch

    fix = "install PyTorch again"
    if device == "cuda":
        _require_cuda()
        fix = "install a build of PyTorch that has kernels for this GPU"
    with _failure_means(f"PyTorch computes no convolution on {device}", fix):
        image = torch.ones(1, 1, 4, 4, device=device)
        torch.nn.functional.conv2d(image, torch.ones(1, 1, 3, 3, device=device)).sum().item()
    where = torch.cuda.get_device_name() if device == "cuda" else torch.backends.cpu.get_cpu_capability()
    return f"torch {torch.__version__}, {where}"


def _ort_on_cpu() -> str:
    with _onnx_runtime_loads():
        import onnxruntime
    with _failure_means("CPUExecutionProvider does not run", _ORT_AGAIN):
        session = onnxruntime.InferenceSession(_tiny_graph(), providers=["CPUExecutionProvider"])
        session.run(None, {"x": _tiny_image()})
    return f"onnxruntime {onnxruntime.__version__}, CPUExecutionProvider"


def _ort_on_gpu(provider: Provider) -> str:
    with _onnx_runtime_loads():
        import onnxruntime
    session = session_on_gpu(_tiny_graph(), onnxruntime.SessionOptions(), provider, {})
    with _failure_means(f"{provider.name} does not run", provider.fix):
        session.run(None, {"x": _tiny_image()})
    return f"onnxruntime {provider.version}, {provider.name}"


@contextmanager
def _onnx_runtime_loads() -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise UserError(f"ONNX Runtime does not load ({error})", _ORT_AGAIN) from error


def _openvino() -> str:
    try:
        import openvino
    except ImportError as error:
        raise UserError(f"OpenVINO does not load ({error})", "pip install openvino") from error
    with _failure_means("OpenVINO does not run here", "use --engine ort"):
        core = openvino.Core()
        compiled = core.compile_model(core.read_model(_tiny_graph()), "CPU")
        compiled({"x": _tiny_image()})
        name = core.get_property("CPU", "FULL_DEVICE_NAME")
    return f"openvino {version_of('openvino')}, {str(name).strip()}"


def _build(builder: Builder) -> str:
    """Parse a network with a builder; that needs no GPU with TensorRT for RTX."""
    if not builder.is_installed:
        raise UserError(f"{builder.title} is not installed", f"pip install {builder.package}")
    trt = builder.load()
    if not builder.ahead_of_time:
        _require_gpu()
    logger = collecting_logger(trt)
    with _failure_means(
        f"{builder.title} cannot parse a network", f"install {builder.package} again", logger
    ):
        trt_builder = trt.Builder(logger)
        network = trt_builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
        if not trt.OnnxParser(network, logger).parse(_tiny_graph()):
            raise RuntimeError("its parser refuses a graph of one convolution")
    return f"{builder.package} {builder.version}"


def _run_trt() -> str:
    """Make a runtime with each TensorRT that is installed; one that can is enough."""
    _require_gpu()
    _require_cuda()
    installed = [builder for builder in BUILDERS.values() if builder.is_installed]
    if not installed:
        raise UserError("no TensorRT is installed", f"pip install {BUILDERS['rtx'].package}")
    outcomes = [_tried(builder.title, partial(_make_runtime, builder)) for builder in installed]
    seen = "; ".join(outcome.provided_by for outcome in outcomes)
    if not any(outcome.able for outcome in outcomes):
        raise UserError(seen, "; ".join(outcome.fix for outcome in outcomes))
    return seen


def _make_runtime(builder: Builder) -> str:
    trt = builder.load()
    present = gpus()
    usable = [gpu for gpu in present if not builder.ahead_of_time or rtx_supports(gpu.compute_capability)]
    if not usable:
        raise UserError(
            f"{builder.title} has no kernels for {_names(present)}",
            "pip install tensorrt, which builds for the GPU of this machine",
        )
    logger = collecting_logger(trt)
    with _failure_means(f"{builder.title} makes no runtime", "update the NVIDIA driver", logger):
        if trt.Runtime(logger) is None:
            raise RuntimeError("no reason is given")
    return f"{builder.package} {builder.version}, {_names(usable)}"


def _names(devices: list[Gpu]) -> str:
    return ", ".join(gpu.name for gpu in devices)


@contextmanager
def _failure_means(problem: str, fix: str, logger: Any = None) -> Iterator[None]:
    """Turn whatever a library raises into a `UserError`, because a failure is an answer here.

    Each library has exceptions of its own: PyTorch raises RuntimeError for a GPU it has no kernels for, and
    TensorRT raises TypeError where it cannot make a builder.

    Args:
        logger: a `collecting_logger`, whose errors say more than the exception.
    """
    try:
        yield
    except Exception as error:
        reasons = logger.errors if logger is not None else []
        raise UserError(f"{problem} ({'; '.join(reasons) or _first_line(error)})", fix) from error


def _gpu_clocks() -> str:
    _require_gpu()
    state = gpu_state_or_reason(0)
    if isinstance(state, str):
        raise UserError(state, "update the NVIDIA driver")
    told = {"MHz": state.sm_clock_mhz, "W": state.power_w, "°C": state.temperature_c}
    known = [f"{value:.0f} {unit}" for unit, value in told.items() if value is not None]
    return ", ".join(known) or "NVML answers, and the GPU tells none of them"


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
        raise UserError(f"only {free / 2**20:.0f} MiB are free here", "free 1 GiB for runs of depth 1001")
    return f"{free / 2**30:.0f} GiB"


def _require_cuda() -> None:
    import torch

    if not torch.cuda.is_available():
        raise UserError("PyTorch sees no CUDA device here", "install a CUDA build of torch")


def _require_gpu() -> None:
    if not gpus():
        raise UserError("this machine has no NVIDIA driver or GPU", "use a machine that has one")


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


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
