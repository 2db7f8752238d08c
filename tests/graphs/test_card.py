import json
from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphs.card import PREFIX, GraphCard, card_from_properties
from vocabulary import Flavour, Interface, Precision

CARD = GraphCard(
    variant="preact",
    depth=164,
    block="bottleneck",
    dataset="cifar10",
    classes=("airplane", "automobile"),
    mean=(0.4914, 0.4822, 0.4465),
    std=(0.2470, 0.2435, 0.2616),
    trained=True,
    checkpoint="ab" * 32,
)
FIELDS = [field.name for field in fields(GraphCard)]
# What a file does not say where it is as in most files.
UNSAID = {"interface", "batch"}
ADAPTED = CARD.adapted(takes_pixels=True, batch=8)

finite = st.floats(allow_nan=False, allow_infinity=False, allow_subnormal=False)


@given(
    depth=st.integers(8, 2000),
    classes=st.lists(st.text(), min_size=2).map(tuple),
    mean=st.lists(finite, min_size=1).map(tuple),
    trained=st.booleans(),
    precision=st.sampled_from(Precision),
    flavour=st.sampled_from(Flavour),
    interface=st.sampled_from(Interface),
    batch=st.integers(0, 9),
)
def test_properties_give_the_same_card_back(**values):
    card = replace(CARD, **values)
    assert card_from_properties(card.to_properties()) == card


def test_properties_are_json_under_the_prefix():
    properties = CARD.to_properties()
    assert set(properties) == {PREFIX + name for name in FIELDS if name not in UNSAID}
    assert json.loads(properties["skipfold.mean"]) == [0.4914, 0.4822, 0.4465]
    assert json.loads(properties["skipfold.variant"]) == "preact"


def test_file_says_what_goes_in_and_what_comes_out_where_it_is_not_as_in_most_files():
    properties = ADAPTED.to_properties()
    assert set(properties) == {PREFIX + name for name in FIELDS}
    assert json.loads(properties["skipfold.interface"]) == "uint8 NHWC to probabilities"
    assert json.loads(properties["skipfold.batch"]) == 8
    assert card_from_properties(properties) == ADAPTED


def test_adapted_graph_is_the_same_network_with_another_output():
    assert ADAPTED.is_same_network(CARD) and CARD.is_same_network(ADAPTED)
    assert (CARD.output, ADAPTED.output) == ("logits", "probabilities")
    assert (CARD.takes_pixels, ADAPTED.takes_pixels) == (False, True)


def test_properties_of_others_are_ignored():
    assert card_from_properties(CARD.to_properties() | {"author": "someone"}) == CARD


@pytest.mark.parametrize("name", sorted(set(FIELDS) - UNSAID))
def test_missing_key_is_named(name):
    properties = CARD.to_properties()
    del properties[PREFIX + name]
    with pytest.raises(ValueError, match=f"skipfold.{name} "):
        card_from_properties(properties)


def test_value_that_is_no_json_is_refused():
    with pytest.raises(ValueError):
        card_from_properties(CARD.to_properties() | {"skipfold.depth": "deep"})


def test_with_precision_changes_nothing_else():
    changed = CARD.with_precision("int8", "cpu")
    assert (changed.precision, changed.flavour) == ("int8", "cpu")
    assert replace(changed, precision="fp32", flavour="any") == CARD


@pytest.mark.parametrize(
    ("precision", "flavour", "saturation"),
    [("fp16", "any", ""), ("int8", "cpu", "stem"), ("int8", "cpu", "full"), ("int8", "gpu", "")],
)
def test_every_precision_is_the_same_network(precision, flavour, saturation):
    other = CARD.with_precision(precision, flavour, saturation)
    assert CARD.is_same_network(other)
    assert other.is_same_network(CARD)


@pytest.mark.parametrize(
    "change",
    [
        {"checkpoint": "cd" * 32},
        {"depth": 110},
        {"variant": "original"},
        {"classes": ("a", "b")},
        {"trained": False},
    ],
    ids=lambda change: next(iter(change)),
)
def test_other_weights_or_description_are_another_network(change):
    assert not CARD.is_same_network(replace(CARD, **change).with_precision("int8", "cpu"))
