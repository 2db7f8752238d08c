from pathlib import Path

import pytest

from errors import UserError
from runtimes.tensorrt.package import BUILDERS
from runtimes.tensorrt.plan_options import (
    DEFAULT_PROFILES,
    PlanOptions,
    Profile,
    bytes_from_text,
    profile_serving,
    profiles_from_texts,
    require_supported,
)

RTX, TENSORRT = BUILDERS["rtx"], BUILDERS["tensorrt"]


def test_the_default_has_a_profile_for_one_image_and_one_for_many() -> None:
    assert profiles_from_texts([]) == DEFAULT_PROFILES == (Profile(1, 1, 1), Profile(1, 32, 128))


def test_profiles_are_read_in_their_order() -> None:
    assert profiles_from_texts(["1:4:16", "16:64:256"]) == (Profile(1, 4, 16), Profile(16, 64, 256))


@pytest.mark.parametrize(
    "text",
    ["", "1", "1:2", "1:2:3:4", "0:1:2", "2:1:3", "1:4:3", "a:b:c", "1:2:x", "-1:2:3", "1:2:²", "1::3"],
)
def test_other_profiles_are_refused_by_their_text(text: str) -> None:
    with pytest.raises(UserError, match="--batches must be MIN:OPT:MAX") as refusal:
        profiles_from_texts(["1:1:1", text])
    assert f"got '{text}'" in refusal.value.problem


def test_a_profile_that_stands_there_twice_is_refused() -> None:
    with pytest.raises(UserError, match="--batches 1:2:3 --batches 1:2:3 names a profile twice"):
        profiles_from_texts(["1:2:3", "1:2:3"])


@pytest.mark.parametrize(("batch", "profile"), [(1, 0), (2, 1), (32, 1), (128, 1), (129, None), (0, None)])
def test_a_batch_is_served_by_the_profile_that_is_tuned_best_for_it(batch: int, profile: int | None) -> None:
    assert profile_serving(DEFAULT_PROFILES, batch) == profile
    assert profile_serving([list(entry) for entry in DEFAULT_PROFILES], batch) == profile


def test_of_two_profiles_that_are_tuned_alike_the_first_serves() -> None:
    assert profile_serving([(1, 8, 16), (4, 8, 32)], 8) == 0
    assert profile_serving([(1, 8, 16), (4, 8, 32)], 20) == 1


@pytest.mark.parametrize(
    ("text", "size"),
    [
        *(("1", 1), ("1048576", 2**20), ("1K", 2**10), ("512M", 2**29)),
        *(("2G", 2**31), ("4gb", 2**32), ("64MiB", 2**26), (" 8K ", 2**13)),
    ],
)
def test_sizes_of_the_workspace(text: str, size: int) -> None:
    assert bytes_from_text(text) == size


@pytest.mark.parametrize("text", ["", "2 g", "0", "0G", "-1", "1.5G", "much", "1T", "G"])
def test_other_sizes_are_refused_by_their_text(text: str) -> None:
    with pytest.raises(UserError, match=f"--workspace must be a number of bytes over 0, got '{text}'"):
        bytes_from_text(text)


@pytest.mark.parametrize(
    ("options", "option", "reason", "with_gpu"),
    [
        (PlanOptions(timing_cache=Path("x")), "--timing-cache", "keeps no timings", True),
        (PlanOptions(version_compatible=True), "--version-compatible", "lean runtime", True),
        (PlanOptions(hardware_compatible="ampere"), "--hardware-compatible", "--target", True),
        (PlanOptions(optimization_level=5), "--optimization-level", "same plan at every level", True),
        (PlanOptions(optimization_level=0), "--optimization-level", "same plan at every level", True),
        (PlanOptions(refit=True), "--refit", "needs a GPU", False),
        (PlanOptions(strip=True), "--strip", "needs a GPU", False),
    ],
)
def test_what_rtx_does_not_have_is_refused_with_the_reason(
    options: PlanOptions, option: str, reason: str, with_gpu: bool
) -> None:
    with pytest.raises(UserError, match=f"{option} cannot be used: TensorRT for RTX .*{reason}") as refusal:
        require_supported(options, RTX, have_gpu=False)
    assert option in refusal.value.fix
    require_supported(options, TENSORRT, have_gpu=True)
    if not with_gpu:
        require_supported(options, RTX, have_gpu=True)


@pytest.mark.parametrize("builder", [RTX, TENSORRT])
def test_the_defaults_and_what_both_builders_have_pass(builder: object) -> None:
    for options in (PlanOptions(), PlanOptions(tf32=True, workspace=2**30, profiles=(Profile(1, 2, 3),))):
        require_supported(options, builder, have_gpu=False)


def test_strip_and_refit_are_one_too_many() -> None:
    with pytest.raises(UserError, match="--strip makes a plan whose weights can be filled in"):
        require_supported(PlanOptions(strip=True, refit=True), TENSORRT, have_gpu=True)


def test_everything_but_the_timing_cache_makes_a_plan_out_of_date() -> None:
    plain = PlanOptions().to_json()
    assert PlanOptions(timing_cache=Path("x")).to_json() == plain
    changed = [
        PlanOptions(profiles=(Profile(1, 2, 3),)),
        PlanOptions(tf32=True),
        PlanOptions(optimization_level=4),
        PlanOptions(workspace=2**30),
        PlanOptions(version_compatible=True),
        PlanOptions(hardware_compatible="same"),
        PlanOptions(refit=True),
        PlanOptions(strip=True),
    ]
    assert all(options.to_json() != plain for options in changed)
    assert plain["batches"] == [[1, 1, 1], [1, 32, 128]]
