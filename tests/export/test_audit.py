"""The judge is tested: clean networks pass, and every seeded fault is refused by the name of its node."""

import numpy as np
import onnx_ir as ir
import pytest
from sample_networks import node_named, sample_graph
from torch import nn

import models.resnet
from errors import CheckFailed
from export.audit import audit
from graphs.onnx_file import initializer
from models.blocks import ConvPlan, PreActBlock, convolution, shortcut_plan
from models.config import resnet_config

DEPTHS = (8, 11, 20, 29, 164)
# Two blocks a stage: the first of stages 2 and 3 projects, all others are identities.
TWO_BLOCKS = resnet_config("preact", 14)
TWO_ORIGINAL_BLOCKS = resnet_config("original", 14)


@pytest.mark.parametrize("depth", DEPTHS)
def test_preact_skip_path_is_clean(depth):
    config = resnet_config("preact", depth)
    found = audit(sample_graph(config), config)
    assert found.clean
    assert found.relus == ()
    assert len(found.adds) == 3 * config.blocks_per_stage
    assert len(found.projections) == (3 if config.block == "bottleneck" else 2)
    assert found.sentence().endswith("nothing else: the skip path is clean")


@pytest.mark.parametrize("depth", DEPTHS)
def test_original_skip_path_has_a_relu_behind_every_add(depth):
    config = resnet_config("original", depth)
    found = audit(sample_graph(config), config)
    assert not found.clean
    assert len(found.adds) == 3 * config.blocks_per_stage
    assert found.relus == tuple(name.replace(".add", ".relu") for name in found.adds)
    assert len(found.projections) == (3 if config.block == "bottleneck" else 2)
    assert f"{len(found.adds)} ReLU after the Adds: no identity" in found.sentence()


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


def refusal_of(model, config=TWO_BLOCKS):
    with pytest.raises(CheckFailed) as caught:
        audit(model, config)
    assert caught.value.exit_status == 1
    assert caught.value.problem.startswith("skip path broken: ")
    return caught.value.problem


def batchnorm_parameters(graph, channels):
    return [initializer(graph, f"intruder.{n}", np.full(channels, n + 0.5, np.float32)) for n in range(4)]


def inserted(model, value_name, op_type, into=None, channels=16):
    """Put a node `intruder` on a value, for all its consumers or the one named `into`."""
    value = node_named(model, value_name).outputs[0]
    extra = {
        "BatchNormalization": lambda: batchnorm_parameters(model.graph, channels),
        "Mul": lambda: [initializer(model.graph, "factor", np.float32([0.5]))],
    }.get(op_type, list)()
    node = ir.node(op_type, [value, *extra], name="intruder")
    node.outputs[0].name = "intruder"
    for consumer, index in list(value.uses()):
        if consumer is not node and into in (None, consumer.name):
            consumer.replace_input_with(index, node.outputs[0])
    model.graph.insert_after(value.producer(), node)
    return model


def bypassed(model, name):
    """Take a node out; what consumed it reads its first input."""
    node = node_named(model, name)
    ir.convenience.replace_all_uses_with(node.outputs[0], node.inputs[0])
    model.graph.remove(node, safe=True)
    return model


@pytest.mark.parametrize("add", ["stage1.0.add", "stage1.1.add", "stage2.0.add", "stage3.1.add"])
def test_relu_behind_an_add_of_a_preact_network(add):
    told = refusal_of(inserted(sample_graph(TWO_BLOCKS), add, "Relu"))
    assert f"Relu intruder stands behind {add}" in told


@pytest.mark.parametrize("operator", ["Relu", "BatchNormalization"])
@pytest.mark.parametrize(
    ("value", "add"), [("stem.conv", "stage1.0.add"), ("stage1.0.add", "stage1.1.add")], ids=["stem", "block"]
)
def test_intruder_on_an_identity_skip_path(value, add, operator):
    told = refusal_of(inserted(sample_graph(TWO_BLOCKS), value, operator, into=add))
    assert "intruder" in told


@pytest.mark.parametrize("operator", ["Identity", "Mul", "Neg"])
@pytest.mark.parametrize(
    ("value", "add"), [("stem.conv", "stage1.0.add"), ("stage2.0.add", "stage2.1.add")], ids=["stem", "block"]
)
@pytest.mark.parametrize("alone", [True, False], ids=["skip alone", "skip and branch"])
def test_foreign_operator_on_the_skip_path(value, add, operator, alone):
    told = refusal_of(inserted(sample_graph(TWO_BLOCKS), value, operator, into=add if alone else None))
    assert f"{operator} intruder" in told


@pytest.mark.parametrize("config", [TWO_BLOCKS, TWO_ORIGINAL_BLOCKS], ids=["preact", "original"])
@pytest.mark.parametrize("operator", ["Relu", "BatchNormalization", "Identity"])
def test_intruder_behind_a_projection(config, operator):
    projection = "stage2.0.projection" + (".conv" if config.variant == "original" else "")
    model = inserted(sample_graph(config), projection, operator, channels=32)
    assert "intruder" in refusal_of(model, config)


class ActivatedShortcut(PreActBlock):
    """The widely copied mistake: the identity too starts from the activated input."""

    def forward(self, x):
        activated = self.preact(x)
        shortcut = activated if self.projection is None else self.projection(activated)
        return shortcut + self.residual(activated)


class RawProjection(PreActBlock):
    """A projection of x_l itself."""

    def forward(self, x):
        shortcut = x if self.projection is None else self.projection(x)
        return shortcut + self.residual(self.preact(x))


class ProjectionThenActivation(PreActBlock):
    """A projection with its own activation behind it."""

    def __init__(self, plans):
        super().__init__(plans)
        if self.projection is not None:
            self.projection = nn.Sequential(
                self.projection, nn.ReLU(), nn.BatchNorm2d(plans[-1].out_channels)
            )


class OwnActivation(PreActBlock):
    """An activation for the projection that F does not share."""

    def __init__(self, plans):
        super().__init__(plans)
        self.second = PreActBlock(plans).preact

    def forward(self, x):
        shortcut = x if self.projection is None else self.projection(self.second(x))
        return shortcut + self.residual(self.preact(x))


class NeedlessProjection(PreActBlock):
    """A projection in every block."""

    def __init__(self, plans):
        super().__init__(plans)
        if shortcut_plan(plans) is None:
            self.projection = convolution(ConvPlan(plans[0].in_channels, plans[-1].out_channels, 1, 1))


class Activated(PreActBlock):
    """ReLU after the addition."""

    def __init__(self, plans):
        super().__init__(plans)
        self.relu = nn.ReLU()

    def forward(self, x):
        return self.relu(super().forward(x))


@pytest.mark.parametrize(
    ("block", "depth", "told"),
    [
        # With one block a stage only the first is an identity, and BN folds into the stem before it.
        (ActivatedShortcut, 8, "Relu stage1.0.preact.relu1 stands on the skip path to stage1.0.add"),
        (ActivatedShortcut, 14, "BatchNormalization stage1.1.preact.bn1 stands on the skip path"),
        (ActivatedShortcut, 20, "BatchNormalization stage1.1.preact.bn1 stands on the skip path"),
        (ActivatedShortcut, 29, "BatchNormalization stage1.1.preact.bn1 stands on the skip path"),
        (RawProjection, 8, "Conv stage2.0.projection stands behind stage1.0.add, on the skip path"),
        (RawProjection, 11, "Conv stage1.0.projection stands on the skip path to stage1.0.add"),
        (ProjectionThenActivation, 8, "Relu stage2.0.projection.1 stands on the skip path to stage2.0.add"),
        (OwnActivation, 8, "BatchNormalization stage2.0.second.bn1 stands on the skip path alone"),
        (NeedlessProjection, 8, "Conv stage1.0.projection is a projection where the shape does not change"),
        (NeedlessProjection, 14, "projection is a projection where the shape does not change"),
        (Activated, 8, "Relu stage1.0.relu stands behind stage1.0.add"),
        (Activated, 29, "Relu stage1.0.relu stands behind stage1.0.add"),
    ],
)  # fmt: skip
def test_wrong_block_is_refused(monkeypatch, block, depth, told):
    monkeypatch.setattr(models.resnet, "PreActBlock", block)
    config = resnet_config("preact", depth)
    assert told in refusal_of(sample_graph(config), config)


def test_activated_shortcut_is_no_fault_where_every_block_projects(monkeypatch):
    monkeypatch.setattr(models.resnet, "PreActBlock", ActivatedShortcut)
    config = resnet_config("preact", 11)
    assert audit(sample_graph(config), config).clean


@pytest.mark.parametrize("add", ["stage1.1.add", "stage3.1.add"])
@pytest.mark.parametrize("config", [TWO_BLOCKS, TWO_ORIGINAL_BLOCKS], ids=["preact", "original"])
def test_missing_add(config, add):
    told = refusal_of(bypassed(sample_graph(config), add), config)
    assert "5 Add nodes, where 6 blocks are due" in told


@pytest.mark.parametrize("variant", ["preact", "original"])
def test_graph_of_another_depth(variant):
    told = refusal_of(sample_graph(resnet_config(variant, 8)), resnet_config(variant, 14))
    assert "3 Add nodes, where 6 blocks are due" in told


@pytest.mark.parametrize("variant", ["preact", "original"])
def test_graph_of_the_other_block_with_as_many_adds(variant):
    told = refusal_of(sample_graph(resnet_config(variant, 20)), resnet_config(variant, 29))
    assert "2 projections, where 3 are due" in told


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
    assert told in refusal_of(bypassed(sample_graph(TWO_BLOCKS), missing))


def test_preact_head_with_neither_bn_nor_relu():
    model = bypassed(bypassed(sample_graph(TWO_BLOCKS), "head.relu"), "head.bn")
    assert "GlobalAveragePool pool stands behind stage3.1.add" in refusal_of(model)


def test_missing_stem():
    assert "images" in refusal_of(bypassed(sample_graph(TWO_BLOCKS), "stem.conv"))


def test_second_relu_behind_an_original_block():
    model = inserted(sample_graph(TWO_ORIGINAL_BLOCKS), "stage1.0.relu", "Relu")
    assert "intruder" in refusal_of(model, TWO_ORIGINAL_BLOCKS)
