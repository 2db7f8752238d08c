import pytest
from hypothesis import given
from hypothesis import strategies as st

from errors import UserError
from models.config import (
    BLOCKS,
    VARIANTS,
    ResNetConfig,
    default_block,
    fits,
    nearest_depths,
    resnet_config,
)

# The depths of the papers, with the block that the papers use and the number of blocks a stage.
PAPER_DEPTHS = [
    (20, "basic", 3),
    (32, "basic", 5),
    (44, "basic", 7),
    (56, "basic", 9),
    (110, "basic", 18),
    (1202, "basic", 200),
    (29, "bottleneck", 3),
    (47, "bottleneck", 5),
    (83, "bottleneck", 9),
    (164, "bottleneck", 18),
    (1001, "bottleneck", 111),
]

# Depths that fit both formulas, with the block that the papers do not use and the number of blocks a stage.
OTHER_BLOCK = [(20, "bottleneck", 2), (56, "bottleneck", 6), (110, "bottleneck", 12), (164, "basic", 27)]


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(("depth", "block", "blocks"), PAPER_DEPTHS)
def test_paper_depths_give_the_papers_block(variant: str, depth: int, block: str, blocks: int) -> None:
    config = resnet_config(variant, depth)
    assert config == ResNetConfig(variant, depth, block, num_classes=10, in_channels=3)
    assert config.blocks_per_stage == blocks


@pytest.mark.parametrize(("depth", "block", "blocks"), OTHER_BLOCK)
def test_block_given_goes_before_the_papers_choice(depth: int, block: str, blocks: int) -> None:
    assert default_block(depth) != block
    config = resnet_config("preact", depth, block)
    assert config.block == block
    assert config.blocks_per_stage == blocks


@pytest.mark.parametrize(
    ("depth", "block"), [(8, "basic"), (14, "basic"), (11, "bottleneck"), (65, "bottleneck")]
)
def test_depths_outside_the_papers_take_the_block_that_fits(depth: int, block: str) -> None:
    assert default_block(depth) == block


@given(n=st.integers(1, 300))
def test_depth_formulas(n: int) -> None:
    assert fits(6 * n + 2, "basic")
    assert fits(9 * n + 2, "bottleneck")
    assert resnet_config("preact", 6 * n + 2, "basic").blocks_per_stage == n
    assert resnet_config("preact", 9 * n + 2, "bottleneck").blocks_per_stage == n
    for off in range(1, 6):
        assert not fits(6 * n + 2 + off, "basic")


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("depth", [-4, 0, 1, 2])
def test_no_depth_without_a_block(depth: int, block: str) -> None:
    assert not fits(depth, block)


@given(depth=st.integers(-5, 3000), block=st.sampled_from(BLOCKS))
def test_nearest_depths_are_valid_neighbours_around_the_depth(depth: int, block: str) -> None:
    below, above = nearest_depths(depth, block)
    assert fits(below, block)
    assert fits(above, block)
    assert not any(fits(between, block) for between in range(below + 1, above))
    assert depth < above
    assert below <= depth or below == {"basic": 8, "bottleneck": 11}[block]


@pytest.mark.parametrize(
    ("depth", "block", "fix"),
    [
        (21, None, "nearest depths: 20 or 26 basic, 20 or 29 bottleneck"),
        (1000, None, "nearest depths: 998 or 1004 basic, 992 or 1001 bottleneck"),
        (3, None, "nearest depths: 8 or 14 basic, 11 or 20 bottleneck"),
        (2, None, "nearest depths: 8 or 14 basic, 11 or 20 bottleneck"),
        (-7, None, "nearest depths: 8 or 14 basic, 11 or 20 bottleneck"),
        (29, "basic", "nearest depths: 26 or 32"),
        (44, "bottleneck", "nearest depths: 38 or 47"),
        (1001, "basic", "nearest depths: 998 or 1004"),
    ],
)
def test_a_depth_that_fits_nothing_lists_the_nearest(depth: int, block: str | None, fix: str) -> None:
    with pytest.raises(UserError) as error:
        resnet_config("preact", depth, block)
    assert str(depth) in error.value.problem
    assert error.value.fix == fix


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"variant": "resnext"}, "unknown variant 'resnext': use original or preact"),
        ({"block": "wide"}, "unknown block 'wide': use basic or bottleneck"),
        ({"num_classes": 1}, "use at least 2 classes and 1 channel"),
        ({"in_channels": 0}, "use at least 2 classes and 1 channel"),
    ],
)
def test_values_that_make_no_network(options: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        resnet_config(**{"variant": "preact", "depth": 20, **options})


@pytest.mark.parametrize(("depth", "block", "projections"), [(20, "basic", 2), (20, "bottleneck", 3)])
def test_number_of_projections(depth: int, block: str, projections: int) -> None:
    assert resnet_config("original", depth, block).projections == projections


@given(
    variant=st.sampled_from(VARIANTS),
    block=st.sampled_from(BLOCKS),
    n=st.integers(1, 50),
    num_classes=st.integers(2, 100),
    in_channels=st.integers(1, 4),
)
def test_json_gives_the_configuration_back(
    variant: str, block: str, n: int, num_classes: int, in_channels: int
) -> None:
    depth = {"basic": 6, "bottleneck": 9}[block] * n + 2
    config = resnet_config(variant, depth, block, num_classes, in_channels)
    assert resnet_config(**config.to_json()) == config
