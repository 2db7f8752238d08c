"""TensorRT's builder configuration from skipfold's options.

TensorRT reports a setting that it does not take by a return value, by an index of -1 or by a value that reads
back as another one, and then builds something else. All of these are checked here.
"""

from types import ModuleType
from typing import Any

from data.dataset import IMAGE_SIZE
from errors import CheckFailed, UserError
from graphs.card import INPUT
from runtimes.tensorrt.plan_options import COMPATIBILITY_LEVELS, PlanOptions, Profile


def builder_config(
    trt: ModuleType, builder: Any, network: Any, targets: tuple[str, ...], options: PlanOptions
) -> Any:
    """Make the configuration of one build.

    Args:
        targets: compute capabilities such as "sm89"; empty for TensorRT's own choice.

    Raises:
        CheckFailed: TensorRT does not take a profile, a target or another setting.
        UserError: this version of TensorRT lacks an option.
    """
    config = builder.create_builder_config()
    # Only at this verbosity does TensorRT tell the final layers, which the precision is proved by.
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    _set_flags(trt, config, options)
    _set_levels(trt, config, options)
    for profile in options.profiles:
        _add_profile(builder, network, config, profile)
    _set_targets(trt, config, targets)
    return config


def _set_flags(trt: ModuleType, config: Any, options: PlanOptions) -> None:
    # TensorRT sets TF32 by itself; float32 is to mean float32 unless TF32 was asked for.
    flags = {
        "TF32": options.tf32,
        "VERSION_COMPATIBLE": options.version_compatible,
        "REFIT": options.refit,
        "STRIP_PLAN": options.strip,
    }
    for name, is_wanted in flags.items():
        if is_wanted:
            config.set_flag(_member(trt.BuilderFlag, name, trt))
            _require(config.get_flag(getattr(trt.BuilderFlag, name)), f"the builder flag {name}")
    if not options.tf32:
        config.clear_flag(trt.BuilderFlag.TF32)


def _set_levels(trt: ModuleType, config: Any, options: PlanOptions) -> None:
    if options.optimization_level is not None:
        config.builder_optimization_level = options.optimization_level
        taken = config.builder_optimization_level == options.optimization_level
        _require(taken, f"the optimization level {options.optimization_level}")
    if options.workspace is not None:
        pool = trt.MemoryPoolType.WORKSPACE
        config.set_memory_pool_limit(pool, options.workspace)
        taken = config.get_memory_pool_limit(pool) == options.workspace
        _require(taken, f"a workspace of {options.workspace} bytes")
    if options.hardware_compatible is not None:
        name = COMPATIBILITY_LEVELS[options.hardware_compatible]
        level = _member(trt.HardwareCompatibilityLevel, name, trt)
        config.hardware_compatibility_level = level
        _require(config.hardware_compatibility_level == level, f"the hardware compatibility level {name}")


def _add_profile(builder: Any, network: Any, config: Any, sizes: Profile) -> None:
    channels = network.get_input(0).shape[1]
    shapes = [(batch, channels, IMAGE_SIZE, IMAGE_SIZE) for batch in sizes]
    words = f"the profile {':'.join(map(str, sizes))}"
    profile = builder.create_optimization_profile()
    profile.set_shape(INPUT, *shapes)
    _require([tuple(shape) for shape in profile.get_shape(INPUT)] == shapes, words)
    before = config.num_optimization_profiles
    _require(config.add_optimization_profile(profile) == before, words)


def _set_targets(trt: ModuleType, config: Any, targets: tuple[str, ...]) -> None:
    if not targets:
        return
    config.num_compute_capabilities = len(targets)
    for index, target in enumerate(targets):
        capability = getattr(trt.ComputeCapability, target.upper())
        _require(config.set_compute_capability(capability, index), f"the target {target}")
        _require(config.get_compute_capability(index) == capability, f"the target {target}")


def _member(enumeration: Any, name: str, trt: ModuleType) -> Any:
    if not hasattr(enumeration, name):
        raise UserError(
            f"TensorRT {trt.__version__} has no {name}", "leave the option out, or update TensorRT"
        )
    return getattr(enumeration, name)


def _require(taken: Any, what: str) -> None:
    if not taken:
        raise CheckFailed(
            f"TensorRT did not take {what}, and would have built something else without a word",
            "leave the option out, or report this together with the version of TensorRT",
        )
