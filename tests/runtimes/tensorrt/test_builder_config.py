from typing import Any

import pytest
from pretended_tensorrt import PretendedConfig, PretendedTensorRT

from errors import CheckFailed, UserError
from runtimes.tensorrt.builder_config import builder_config
from runtimes.tensorrt.package import BUILDERS
from runtimes.tensorrt.plan_options import DEFAULT_PROFILES, PlanOptions, Profile

RTX = BUILDERS["rtx"]

needs_rtx = pytest.mark.skipif(RTX.version is None, reason="tensorrt-rtx is not installed")


def _config(
    options: PlanOptions = PlanOptions(), *targets: str, refused: tuple[str, ...] = ()
) -> PretendedConfig:
    package: Any = PretendedTensorRT(refused=refused)
    builder = package.Builder(None)
    return builder_config(package, builder, builder.create_network(1), targets, options)


def test_float32_means_float32_and_the_layers_are_told() -> None:
    config = _config()
    assert config.flags == set()
    assert config.profiling_verbosity == "DETAILED"
    assert config.profiles == [[(batch, 3, 32, 32) for batch in profile] for profile in DEFAULT_PROFILES]
    assert config.capabilities == []


def test_every_option_reaches_the_configuration() -> None:
    options = PlanOptions(
        profiles=(Profile(1, 2, 4),),
        tf32=True,
        optimization_level=5,
        workspace=2**30,
        version_compatible=True,
        hardware_compatible="ampere",
        refit=True,
        strip=True,
    )
    config = _config(options, "sm86", "sm89")
    assert config.flags == {"TF32", "VERSION_COMPATIBLE", "REFIT", "STRIP_PLAN"}
    assert config.builder_optimization_level == 5
    assert config.pools == {"WORKSPACE": 2**30}
    assert config.hardware_compatibility_level == "AMPERE_PLUS"
    assert config.profiles == [[(1, 3, 32, 32), (2, 3, 32, 32), (4, 3, 32, 32)]]
    assert config.capabilities == ["SM86", "SM89"]


@pytest.mark.parametrize(
    ("refused", "options", "targets", "named"),
    [
        ("set_compute_capability", PlanOptions(), ("sm89",), "the target sm89"),
        ("set_shape", PlanOptions(), (), "the profile 1:1:1"),
        ("add_optimization_profile", PlanOptions(), (), "the profile 1:1:1"),
        ("set_memory_pool_limit", PlanOptions(workspace=5), (), "a workspace of 5 bytes"),
        ("REFIT", PlanOptions(refit=True), (), "the builder flag REFIT"),
        ("", PlanOptions(optimization_level=9), (), "the optimization level 9"),
        (
            "hardware_compatibility_level",
            PlanOptions(hardware_compatible="ampere"),
            (),
            "the hardware compatibility level AMPERE_PLUS",
        ),
    ],
)
def test_a_setting_that_tensorrt_does_not_take_is_a_failed_check(
    refused: str, options: PlanOptions, targets: tuple[str, ...], named: str
) -> None:
    with pytest.raises(CheckFailed, match=f"TensorRT did not take {named}"):
        _config(options, *targets, refused=(refused,))


def test_a_level_that_this_version_lacks_is_the_users_matter() -> None:
    with pytest.raises(UserError, match=r"TensorRT 11\.0 has no SAME_COMPUTE_CAPABILITY"):
        _config(PlanOptions(hardware_compatible="same"))


@needs_rtx
@pytest.mark.parametrize("tf32", [False, True])
def test_tensorrt_for_rtx_takes_profiles_targets_and_flags(tf32: bool) -> None:
    trt = RTX.load()
    builder = trt.Builder(trt.Logger(trt.Logger.ERROR))
    network = builder.create_network(0)
    network.add_input("images", trt.float32, (-1, 3, 32, 32))
    options = PlanOptions(tf32=tf32, workspace=2**30)
    config = builder_config(trt, builder, network, ("sm86", "sm89"), options)
    assert config.get_flag(trt.BuilderFlag.TF32) == tf32
    assert config.num_optimization_profiles == 2
    assert config.num_compute_capabilities == 2
