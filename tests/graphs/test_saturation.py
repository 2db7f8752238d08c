"""The arithmetic of the static check, against an exact simulation of 16-bit sums and ONNX Runtime."""

import itertools

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from saturating_samples import (
    exact_sums,
    hot_convolution,
    of_convolutions,
    of_integer_convolutions,
    run_convolutions,
)

from calibration.quantizing.scales import weight_codes, weight_scales
from graphs.saturation import (
    FREE,
    SATURATES,
    extreme_pairs,
    saturation_findings,
)
from machine.cpu import adds_products_in_16_bits

CORNERS = np.array(list(itertools.product((0, 255), repeat=4)))


def verdicts(weights: list[np.ndarray]) -> list[str]:
    return [finding.verdict for finding in saturation_findings(ir.from_proto(of_convolutions(weights)))]


def overflows(weights: np.ndarray, codes: np.ndarray = CORNERS) -> np.ndarray:
    """Tell for each convolution whether some order of the four products makes a 16-bit sum overflow.

    Two products are added in 16 bits, so that each order gives two such sums.

    Args:
        weights: [convolutions, 4].
        codes: [activations, 4].
    """
    products = weights[:, None].astype(np.int64) * codes
    wrong = np.zeros(len(weights), bool)
    for order in itertools.permutations(range(4)):
        pairs = products[..., order].reshape(*products.shape[:2], 2, 2).sum(-1)
        wrong |= (np.clip(pairs, -32768, 32767).sum(-1) != products.sum(-1)).any(1)
    return wrong


@settings(max_examples=100, deadline=None)
@given(st.sampled_from([40, 64, 65, 80, 128]).flatmap(
    lambda limit: arrays(np.int8, (100, 4), elements=st.integers(-limit, min(limit, 127)), fill=st.nothing())
))  # fmt: skip
def test_ten_thousand_convolutions_are_judged_as_the_simulation_shows(weights: np.ndarray) -> None:
    shaped = [w.reshape((1, 4, 1, 1) if n % 2 else (1, 1, 2, 2)) for n, w in enumerate(weights)]
    expected = [SATURATES if wrong else FREE for wrong in overflows(weights)]
    assert verdicts(shaped) == expected


def test_both_verdicts_are_common_among_random_convolutions() -> None:
    """A check that gives one verdict to everything would pass no test here."""
    weights = np.random.default_rng(0).normal(0, 60, (1000, 1, 4, 1, 1)).clip(-127, 127).astype(np.int8)
    counts = {verdict: verdicts(list(weights)).count(verdict) for verdict in (FREE, SATURATES)}
    assert counts[FREE] + counts[SATURATES] == 1000
    assert min(counts.values()) > 200


@settings(max_examples=200, deadline=None)
@given(
    weight=arrays(np.int8, (3, 2, 3, 3), elements=st.integers(-70, 70)),
    order=st.permutations(range(18)),
    activation=arrays(np.uint8, 18),
)
def test_no_order_of_a_larger_convolution_that_is_free_overflows(weight, order, activation) -> None:
    products = weight.reshape(3, 18).astype(np.int64)[:, order] * activation[order]
    pairs = products.reshape(3, 9, 2).sum(-1)
    if verdicts([weight]) == [FREE]:
        assert (np.clip(pairs, -32768, 32767) == pairs).all()


@settings(max_examples=200, deadline=None)
@given(arrays(np.float32, (4, 2, 2, 2), elements=st.floats(-2, 2, width=32)))
def test_saturation_safe_scales_are_proved_free(weight: np.ndarray) -> None:
    codes = weight_codes(weight, weight_scales(weight, saturation_safe=True))
    assert verdicts([codes]) == [FREE]


@pytest.mark.parametrize("weight", [-128, 127])
def test_one_product_a_channel_cannot_overflow(weight: int) -> None:
    assert verdicts([np.full((4, 1, 1, 1), weight, np.int8)]) == [FREE]


def test_finding_names_the_worst_channel_and_its_sum() -> None:
    weight = np.array([[64, 64, 0], [-100, 5, -30], [127, -127, 1]], np.int8).reshape(3, 3, 1, 1)
    (finding,) = saturation_findings(ir.from_proto(of_convolutions([weight])))
    assert (finding.node, finding.verdict, finding.channel, finding.pair_sum) == ("y0", SATURATES, 1, -33150)


def test_limits_are_those_of_int16() -> None:
    """128 * 255 = 32640 fits into 16 bits with either sign, and 129 * 255 = 32895 does not."""
    for sign in (1, -1):
        assert verdicts([np.array([64, 64], np.int8).reshape(1, 2, 1, 1) * sign]) == [FREE]
        assert verdicts([np.array([64, 65], np.int8).reshape(1, 2, 1, 1) * sign]) == [SATURATES]


@settings(max_examples=300)
@given(
    weights=arrays(np.int64, (1, 4), elements=st.integers(-128, 127)),
    largest=arrays(np.int64, (1, 4), elements=st.integers(0, 255)),
)
def test_extreme_pairs_are_those_of_all_codes(weights: np.ndarray, largest: np.ndarray) -> None:
    ends = [(0, int(n)) for n in largest[0]]
    pairs = [
        u * int(weights[0, i]) + v * int(weights[0, j])
        for i, j in itertools.combinations(range(4), 2)
        for u in ends[i]
        for v in ends[j]
    ]
    smallest, highest = extreme_pairs(weights, weights, largest)
    assert (smallest[0], highest[0]) == (min(pairs), max(pairs))


def in_onnxruntime(weight: np.ndarray, activation: np.ndarray) -> np.ndarray:
    return run_convolutions(of_integer_convolutions([weight]), [activation])[0]


@pytest.mark.parametrize("seed", range(5))
def test_onnxruntime_sums_exactly_what_is_called_free(seed: int) -> None:
    weight, activation = hot_convolution(64, seed)
    assert verdicts([weight]) == [FREE]
    assert (in_onnxruntime(weight, activation) == exact_sums(weight, activation)).all()


@pytest.mark.skipif(not adds_products_in_16_bits(), reason="needs an x86 CPU without VNNI")
def test_onnxruntime_saturates_where_it_is_said_to() -> None:
    weight, activation = hot_convolution(127, 0)
    assert verdicts([weight]) == [SATURATES]
    assert (in_onnxruntime(weight, activation) != exact_sums(weight, activation)).any()


@pytest.mark.skipif(adds_products_in_16_bits(), reason="needs a CPU with VNNI")
def test_onnxruntime_is_exact_with_vnni_whatever_the_weights() -> None:
    weight, activation = hot_convolution(127, 0)
    assert (in_onnxruntime(weight, activation) == exact_sums(weight, activation)).all()
