"""For which GPUs an engine is built, and which precisions those compute in.

A GPU is named by its compute capability, `sm89` for 8.9. TensorRT for RTX builds for every GPU that it
knows, and a plan for several of them uses only what all of them have. TensorRT builds for the GPUs of this
machine.
"""

from errors import UserError
from machine.gpu import Gpu, gpus
from runtimes.tensorrt.package import Builder, installed_builder
from vocabulary import Precision

# The least compute capability with arithmetic of a precision, where not all GPUs have it.
_LEAST = {"bf16": 80, "fp8": 89}
# TensorRT for RTX has neither a float32 matrix product nor an INT8 convolution for Turing (7.5): the first
# fails to build, the second runs in float16.
_LEAST_RTX = {"fp32": 80, "int8": 80} | _LEAST
# TensorRT for RTX 1.5 and 1.6 fail to build any INT8 convolution, with an error of their compiler.
_FIRST_RTX_WITH_INT8 = (1, 7)
# What TensorRT for RTX builds for where no target is named, beside all later GPUs.
_DEFAULT = ("sm80", "sm86", "sm89", "sm120")
# The precision that every GPU has.
_EVERYWHERE = "fp16"


def targets_for(builder: Builder, targets: tuple[str, ...], precision: str) -> tuple[str, ...]:
    """The targets in order, each once. Empty leaves the choice to the builder.

    Where no target is named and some GPUs of the builder's default lack the precision, the targets are all
    GPUs that the builder knows and that have it: sm89, sm120 and sm121 for FP8.

    Raises:
        UserError: a target is unknown, or lacks the precision; a target was named for TensorRT; this version
            of the builder lacks the precision.
    """
    targets = _checked(builder, targets)
    if not _builds(builder, precision):
        raise UserError(
            f"{builder.title} {builder.version} has no INT8 convolution", f"pip install -U {builder.package}"
        )
    lacking = [gpu for gpu in devices_of(builder, targets) if not _has(builder, gpu, precision)]
    if lacking:
        raise _lacks(builder, targets, lacking, precision)
    if targets or not builder.ahead_of_time or all(_has(builder, gpu, precision) for gpu in _DEFAULT):
        return targets
    return tuple(gpu for gpu in _known(builder) if _has(builder, gpu, precision))


def precisions_for(targets: tuple[str, ...], builder_name: str | None = None) -> list[Precision]:
    """The precisions that can be built for all of the targets.

    Raises:
        UserError: there is no builder, a target is unknown, or a target was named for TensorRT.
    """
    builder = installed_builder(builder_name)
    devices = devices_of(builder, _checked(builder, targets))
    return [
        name
        for name in Precision
        if _builds(builder, name) and all(_has(builder, target, name) for target in devices)
    ]


def precisions_here() -> list[Precision]:
    """The precisions that every GPU of this machine has; all precisions where there is no GPU."""
    capabilities = [gpu.compute_capability for gpu in gpus()]
    return [name for name in Precision if all(c >= _LEAST.get(name, 0) for c in capabilities)]


def devices_of(builder: Builder, targets: tuple[str, ...]) -> list[str]:
    """The GPUs that an engine is built for, as far as they are known: the targets, or what is here."""
    return list(targets) if builder.ahead_of_time else [target_of(gpu) for gpu in gpus()]


def target_of(gpu: Gpu) -> str:
    """The target that names a GPU, for example "sm89"."""
    return f"sm{gpu.compute_capability}"


def least_capability(builder: Builder, precision: str) -> int:
    """The least compute capability, such as 80 for 8.0, whose GPUs compute in a precision; 0 for all GPUs."""
    return (_LEAST_RTX if builder.ahead_of_time else _LEAST).get(precision, 0)


def _lacks(builder: Builder, targets: tuple[str, ...], lacking: list[str], precision: str) -> UserError:
    """The refusal, with the reason and with what to build instead."""
    reason = ""
    if builder.ahead_of_time and precision == "int8":
        reason = "; its convolutions would run in float16"
    apart = f"build {' and '.join(lacking)} in {_EVERYWHERE}"
    left = [gpu for gpu in targets if gpu not in lacking]
    if left:
        reason += f"; a plan for {','.join(targets)} uses only what all of them have"
        fix = f"{apart}, apart from {precision} with --target {','.join(left)}"
    else:
        able = [gpu for gpu in _DEFAULT if _has(builder, gpu, precision)]
        fix = f"{apart}, or {precision} for {', '.join(able)} or later"
    have = "has" if len(lacking) == 1 else "have"
    return UserError(f"{' and '.join(lacking)} {have} no {precision} for {builder.title}{reason}", fix)


def _checked(builder: Builder, targets: tuple[str, ...]) -> tuple[str, ...]:
    if targets and not builder.ahead_of_time:
        raise UserError(
            f"--target {','.join(targets)} was given, and TensorRT builds for the GPU of this machine alone",
            "leave --target out, or use --builder rtx",
        )
    known = _known(builder) if targets else ()
    for target in targets:
        if target not in known:
            raise UserError(f"unknown --target '{target}'", f"use {', '.join(known)}")
    return tuple(sorted(set(targets), key=number_of))


def _known(builder: Builder) -> tuple[str, ...]:
    """The targets of TensorRT for RTX, in order."""
    names = [name.lower() for name in builder.load().ComputeCapability.__members__ if name.startswith("SM")]
    return tuple(sorted(names, key=number_of))


def _builds(builder: Builder, precision: str) -> bool:
    """Whether the installed version of a builder has a precision at all."""
    if precision != "int8" or not builder.ahead_of_time or builder.version is None:
        return True
    release = tuple(int(part) for part in builder.version.split(".")[:2])
    return release >= _FIRST_RTX_WITH_INT8


def _has(builder: Builder, target: str, precision: str) -> bool:
    return number_of(target) >= least_capability(builder, precision)


def number_of(target: str) -> int:
    """The compute capability as a number: 89 for "sm89"."""
    return int(target.removeprefix("sm"))
