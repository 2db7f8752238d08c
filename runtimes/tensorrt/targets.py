"""For which GPUs an engine is built, and which precisions those compute in.

A GPU is named by its compute capability, `sm89` for 8.9. TensorRT for RTX builds for any it knows;
TensorRT builds for the GPUs of this machine.
"""

from errors import UserError
from machine.gpu import gpus
from runtimes.tensorrt.package import Builder, installed_builder
from vocabulary import Precision

# The least compute capability with arithmetic of a precision, where not all GPUs have it.
_LEAST = {"bf16": 80, "fp8": 89}
# TensorRT for RTX has no float32 matrix product before Ampere.
_LEAST_RTX = {"fp32": 80} | _LEAST
# What TensorRT for RTX builds for where it is not told.
_DEFAULT = ("sm80", "sm86", "sm89", "sm120")


def targets_for(builder: Builder, targets: tuple[str, ...], precision: str) -> tuple[str, ...]:
    """The targets in order, each once; where there are none and not all of TensorRT for RTX's own default
    have the precision, those of them that do. Empty leaves the choice to the builder.

    Raises:
        UserError: a target that is unknown or has not the precision; any target for TensorRT.
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


def precisions_for(targets: tuple[str, ...], builder_name: str | None = None) -> list[str]:
    """The precisions that can be built for all of the targets.

    Raises:
        UserError: no builder, an unknown target, or any for TensorRT.
    """
    builder = installed_builder(builder_name)
    devices = _devices(builder, _checked(builder, targets))
    return [name for name in Precision if all(_has(builder, target, name) for target in devices)]


def precisions_here() -> list[str]:
    """The precisions that every GPU of this machine has; all where there is none."""
    capabilities = [gpu.compute_capability for gpu in gpus()]
    return [name for name in Precision if all(c >= _LEAST.get(name, 0) for c in capabilities)]


def _checked(builder: Builder, targets: tuple[str, ...]) -> tuple[str, ...]:
    if targets and not builder.ahead_of_time:
        raise UserError(
            "TensorRT builds for the GPU of this machine alone",
            "leave --target out, or use --builder rtx",
        )
    if targets:
        members = builder.load().ComputeCapability.__members__
        known = [name.lower() for name in members if name.startswith("SM")]
        for target in targets:
            if target not in known:
                raise UserError(f"unknown target '{target}'", f"use {', '.join(known)}")
    return tuple(sorted(set(targets), key=_number))


def _devices(builder: Builder, targets: tuple[str, ...]) -> list[str]:
    """What is known of the GPUs an engine will be built for."""
    return list(targets) if builder.ahead_of_time else [f"sm{gpu.compute_capability}" for gpu in gpus()]


def _has(builder: Builder, target: str, precision: str) -> bool:
    least = _LEAST_RTX if builder.ahead_of_time else _LEAST
    return _number(target) >= least.get(precision, 0)


def _number(target: str) -> int:
    return int(target.removeprefix("sm"))
