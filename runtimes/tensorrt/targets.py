"""Choose the GPUs that an engine is built for, and the precisions that these GPUs compute in.

A target names a GPU by its compute capability: `sm89` stands for 8.9. TensorRT for RTX builds for every
target that it knows, whereas TensorRT builds for the GPUs of this machine.
"""

from collections.abc import Mapping

from errors import UserError
from machine.gpu import Gpu, gpus
from runtimes.tensorrt.package import Builder, installed_builder
from vocabulary import Precision

# The least compute capability that computes in a precision; all GPUs compute in the precisions not listed.
_LEAST: Mapping[str, int] = {Precision.bf16: 80, Precision.fp8: 89}
# TensorRT for RTX has no float32 matrix product for GPUs older than Ampere.
_LEAST_RTX: Mapping[str, int] = {Precision.fp32: 80, **_LEAST}
# TensorRT for RTX builds for these targets if no target is named.
_DEFAULT = ("sm80", "sm86", "sm89", "sm120")


def targets_for(builder: Builder, targets: tuple[str, ...], precision: str) -> tuple[str, ...]:
    """Return the targets to build for, each one once and in order of their numbers.

    An empty result leaves the choice to the builder. If no targets are named and some default targets of
    TensorRT for RTX lack the precision, the result is the default targets that have it: for fp8, sm89 and
    sm120.

    Raises:
        UserError: a target is unknown or lacks the precision, or a target is named for TensorRT.
    """
    targets = _checked(builder, targets)
    capable = tuple(target for target in _DEFAULT if _has(builder, target, precision))
    for target in _devices(builder, targets):
        if not _has(builder, target, precision):
            raise UserError(
                f"{target} has no {precision} for {builder.title}",
                f"build {precision} for {', '.join(capable)} or later, and int8 or fp16 for {target}",
            )
    if targets or not builder.ahead_of_time or capable == _DEFAULT:
        return targets
    return capable


def precisions_for(targets: tuple[str, ...], builder_name: str | None = None) -> list[Precision]:
    """Return the precisions that can be built for all of the targets.

    Raises:
        UserError: no builder is installed, a target is unknown, or a target is named for TensorRT.
    """
    builder = installed_builder(builder_name)
    devices = _devices(builder, _checked(builder, targets))
    return [name for name in Precision if all(_has(builder, target, name) for target in devices)]


def precisions_here() -> list[Precision]:
    """Return the precisions that every GPU of this machine has, or all precisions if there is no GPU."""
    capabilities = [gpu.compute_capability for gpu in gpus()]
    return [name for name in Precision if all(c >= _LEAST.get(name, 0) for c in capabilities)]


def target_of(gpu: Gpu) -> str:
    """Return the target that names a GPU, for example "sm89"."""
    return f"sm{gpu.compute_capability}"


def _checked(builder: Builder, targets: tuple[str, ...]) -> tuple[str, ...]:
    if targets and not builder.ahead_of_time:
        raise UserError(
            f"--target {','.join(targets)} was given, and TensorRT builds for the GPU of this machine alone",
            "leave --target out, or use --builder rtx",
        )
    if targets:
        members = builder.load().ComputeCapability.__members__
        known = [name.lower() for name in members if name.startswith("SM")]
        for target in targets:
            if target not in known:
                raise UserError(f"unknown --target '{target}'", f"use {', '.join(known)}")
    return tuple(sorted(set(targets), key=_number))


def _devices(builder: Builder, targets: tuple[str, ...]) -> list[str]:
    """Return the targets that must have the precision, which for TensorRT are the GPUs of this machine."""
    return list(targets) if builder.ahead_of_time else [target_of(gpu) for gpu in gpus()]


def _has(builder: Builder, target: str, precision: str) -> bool:
    least = _LEAST_RTX if builder.ahead_of_time else _LEAST
    return _number(target) >= least.get(precision, 0)


def _number(target: str) -> int:
    return int(target.removeprefix("sm"))
