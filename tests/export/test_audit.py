"""The audit passes clean networks and refuses every fault seeded in a graph by the name of the node."""

import onnx_ir as ir
import pytest
from sample_networks import node_named, sample_graph
from skip_path_faults import bypassed, inserted, refusal_of

from export.audit import audit
from models.config import resnet_config

DEPTHS = (8, 11, 20, 29, 164)
# Each stage has two blocks. The first blocks of stages 2 and 3 have a projection, all others an identity.
TWO_BLOCKS = resnet_config("preact", 14)
TWO_ORIGINAL_BLOCKS = resnet_config("original", 14)


@pytest.mark.parametrize("depth", DEPTHS)
def test_preact_skip_path_is_clean(depth):
    config = resnet_config("preact", depth)
    skip_path = audit(sample_graph(config), config)
    assert skip_path.clean
    assert skip_path.relus == ()
    assert len(skip_path.adds) == 3 * config.blocks_per_stage
    assert len(skip_path.projections) == (3 if config.block == "bottleneck" else 2)
    assert skip_path.sentence().endswith("nothing else: the skip path is clean")


@pytest.mark.parametrize("depth", DEPTHS)
def test_original_skip_path_has_a_relu_behind_every_add(depth):
    config = resnet_config("original", depth)
    skip_path = audit(sample_graph(config), config)
    assert not skip_path.clean
    assert len(skip_path.adds) == 3 * config.blocks_per_stage
    assert skip_path.relus == tuple(name.replace(".add", ".relu") for name in skip_path.adds)
    assert len(skip_path.projections) == (3 if config.block == "bottleneck" else 2)
    end = f"{len(skip_path.adds)} ReLUs behind the Adds: the skip path is no identity"
    assert skip_path.sentence().endswith(end)


@pytest.mark.parametrize(
    ("variant", "depth", "projections"),
    [
        ("preact", 8, ("stage2.0.projection", "stage3.0.projection")),
        ("preact", 11, ("stage1.0.projection", "stage2.0.projection", "stage3.0.projection")),
        ("original", 8, ("stage2.0.projection.conv", "stage3.0.projection.conv")),
    ],
)
def test_adds_and_projections_are_named(variant, depth, projections):
    config = resnet_config(variant, depth)
    document = audit(sample_graph(config), config).to_json()
    assert document["adds"] == ("stage1.0.add", "stage2.0.add", "stage3.0.add")
    assert document["projections"] == projections
    assert document["clean"] == (variant == "preact")


@pytest.mark.parametrize("add", ["stage1.0.add", "stage1.1.add", "stage2.0.add", "stage3.1.add"])
def test_relu_behind_an_add_of_a_preact_network(add):
    told = refusal_of(inserted(sample_graph(TWO_BLOCKS), add, "Relu"), TWO_BLOCKS)
    assert f"Relu intruder stands behind {add}" in told


@pytest.mark.parametrize("operator", ["Relu", "BatchNormalization"])
@pytest.mark.parametrize(
    ("value", "add"), [("stem.conv", "stage1.0.add"), ("stage1.0.add", "stage1.1.add")], ids=["stem", "block"]
)
def test_intruder_on_an_identity_skip_path(value, add, operator):
    told = refusal_of(inserted(sample_graph(TWO_BLOCKS), value, operator, into=add), TWO_BLOCKS)
    assert "intruder" in told


@pytest.mark.parametrize("operator", ["Identity", "Mul", "Neg"])
@pytest.mark.parametrize(
    ("value", "add"), [("stem.conv", "stage1.0.add"), ("stage2.0.add", "stage2.1.add")], ids=["stem", "block"]
)
@pytest.mark.parametrize("alone", [True, False], ids=["skip alone", "skip and branch"])
def test_foreign_operator_on_the_skip_path(value, add, operator, alone):
    told = refusal_of(
        inserted(sample_graph(TWO_BLOCKS), value, operator, into=add if alone else None), TWO_BLOCKS
    )
    assert f"{operator} intruder" in told


@pytest.mark.parametrize("config", [TWO_BLOCKS, TWO_ORIGINAL_BLOCKS], ids=["preact", "original"])
@pytest.mark.parametrize("operator", ["Relu", "BatchNormalization", "Identity"])
def test_intruder_behind_a_projection(config, operator):
    projection = "stage2.0.projection" + (".conv" if config.variant == "original" else "")
    model = inserted(sample_graph(config), projection, operator, channels=32)
    assert "intruder" in refusal_of(model, config)


@pytest.mark.parametrize("add", ["stage1.1.add", "stage3.1.add"])
@pytest.mark.parametrize("config", [TWO_BLOCKS, TWO_ORIGINAL_BLOCKS], ids=["preact", "original"])
def test_missing_add(config, add):
    told = refusal_of(bypassed(sample_graph(config), add), config)
    assert "the graph has 5 Add nodes and must have one for each of 6 blocks" in told


@pytest.mark.parametrize("variant", ["preact", "original"])
def test_graph_of_another_depth(variant):
    told = refusal_of(sample_graph(resnet_config(variant, 8)), resnet_config(variant, 14))
    assert "the graph has 3 Add nodes and must have one for each of 6 blocks" in told


@pytest.mark.parametrize("variant", ["preact", "original"])
def test_graph_of_the_other_block_with_as_many_adds(variant):
    told = refusal_of(sample_graph(resnet_config(variant, 20)), resnet_config(variant, 29))
    assert "the graph has 2 projections and must have 3" in told


@pytest.mark.parametrize(("claimed", "told"), [("preact", "Relu"), ("original", "stage1.0.add")])
def test_graph_of_the_other_variant(claimed, told):
    other = {"preact": "original", "original": "preact"}[claimed]
    model = sample_graph(resnet_config(other, 14))
    assert told in refusal_of(model, resnet_config(claimed, 14))


@pytest.mark.parametrize(
    ("relu", "told"),
    [
        ("stage1.0.relu", "Add stage1.0.add is not followed by just one Relu"),
        ("stage2.1.relu", "Add stage2.1.add is not followed by just one Relu"),
        ("stage3.1.relu", "Add stage3.1.add is not followed by just one Relu"),
        ("stem.relu", "Conv stem.conv is not followed by a Relu"),
    ],
)
def test_original_network_without_one_of_its_relus(relu, told):
    model = bypassed(sample_graph(TWO_ORIGINAL_BLOCKS), relu)
    assert told in refusal_of(model, TWO_ORIGINAL_BLOCKS)


def test_original_block_whose_identity_bypasses_its_relu():
    model = sample_graph(TWO_ORIGINAL_BLOCKS)
    node_named(model, "stage1.1.add").replace_input_with(0, node_named(model, "stage1.0.add").outputs[0])
    assert "stage1.0.add" in refusal_of(model, TWO_ORIGINAL_BLOCKS)


@pytest.mark.parametrize("config", [TWO_BLOCKS, TWO_ORIGINAL_BLOCKS], ids=["preact", "original"])
def test_identity_that_starts_a_block_too_early(config):
    model = sample_graph(config)
    end = "stem.relu" if config.variant == "original" else "stem.conv"
    node_named(model, "stage1.1.add").replace_input_with(0, node_named(model, end).outputs[0])
    assert "Add stage1.1.add adds branches that start at" in refusal_of(model, config)


@pytest.mark.parametrize(
    ("config", "former", "end"),
    [(TWO_BLOCKS, "stem.conv", "stage1.0.add"), (TWO_ORIGINAL_BLOCKS, "stem.relu", "stage1.0.relu")],
    ids=["preact", "original"],
)
def test_block_that_is_passed_over(config, former, end):
    model = sample_graph(config)
    ir.convenience.replace_all_uses_with(
        node_named(model, end).outputs[0], node_named(model, former).outputs[0]
    )
    assert f"Add stage1.1.add does not continue {end}" in refusal_of(model, config)


@pytest.mark.parametrize(
    ("missing", "told"),
    [
        ("head.bn", "Relu head.relu stands behind stage3.1.add"),
        ("head.relu", "GlobalAveragePool pool follows head.bn"),
    ],
)
def test_incomplete_head_of_a_preact_network(missing, told):
    assert told in refusal_of(bypassed(sample_graph(TWO_BLOCKS), missing), TWO_BLOCKS)


def test_preact_head_with_neither_bn_nor_relu():
    model = bypassed(bypassed(sample_graph(TWO_BLOCKS), "head.relu"), "head.bn")
    assert "GlobalAveragePool pool stands behind stage3.1.add" in refusal_of(model, TWO_BLOCKS)


def test_missing_stem():
    assert "images" in refusal_of(bypassed(sample_graph(TWO_BLOCKS), "stem.conv"), TWO_BLOCKS)


def test_second_relu_behind_an_original_block():
    model = inserted(sample_graph(TWO_ORIGINAL_BLOCKS), "stage1.0.relu", "Relu")
    assert "intruder" in refusal_of(model, TWO_ORIGINAL_BLOCKS)
