import warnings
from collections import Counter

import numpy as np
import onnx_ir as ir
import pytest
import torch
from sample_networks import (
    FOUR_BLOCKS,
    node_named,
    op_types,
    run_graph,
    sample_card,
    sample_images,
    sample_network,
)
from torch import nn

import models.resnet
from export.onnx_from_model import onnx_from_model
from graphs.onnx_file import constant, write_graph
from models.blocks import PreActBlock
from models.config import resnet_config

# torch.onnx writes these two operators differently: it averages over the pixels and reshapes.
COMMON_NAMES = {"ReduceMean": "GlobalAveragePool", "Reshape": "Flatten"}


def logits_of(model, images):
    with torch.inference_mode():
        return model(torch.from_numpy(images)).numpy()


def assert_parity(model, graph, batch):
    images = sample_images(batch, model.config.in_channels, seed=batch)
    expected = logits_of(model, images)
    (actual,) = run_graph(graph, images)
    assert (actual.dtype, actual.shape) == (np.float32, expected.shape)
    assert np.abs(actual - expected).max() < 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize("batch", [1, 7])
@pytest.mark.parametrize(("variant", "depth"), FOUR_BLOCKS)
def test_logits_are_the_models(variant, depth, batch):
    model = sample_network(resnet_config(variant, depth))
    assert_parity(model, onnx_from_model(model)[0], batch)


@pytest.mark.parametrize(("variant", "depth"), FOUR_BLOCKS)
def test_other_classes_and_channels(tmp_path, variant, depth):
    config = resnet_config(variant, depth, num_classes=3, in_channels=1)
    model = sample_network(config, seed=1)
    graph, _ = onnx_from_model(model)
    assert str(graph.graph.inputs[0].shape) == "[batch,1,32,32]"
    assert str(graph.graph.outputs[0].shape) == "[batch,3]"
    write_graph(graph, sample_card(config), tmp_path / "model.onnx")
    assert_parity(model, tmp_path / "model.onnx", 2)


@pytest.mark.parametrize(("variant", "depth"), FOUR_BLOCKS)
def test_nodes_are_named_after_modules(variant, depth):
    model = sample_network(resnet_config(variant, depth))
    graph, folded = onnx_from_model(model)
    leaves = {name for name, module in model.named_modules() if name and not list(module.children())}
    leaves -= {"head"} if variant == "original" else set()  # the head of an original network has no nodes
    adds = {f"stage{stage}.0.add" for stage in (1, 2, 3)}
    names = [str(node.name) for node in graph.graph]
    assert len(names) == len(set(names))
    assert set(names) == leaves - set(folded.changed) | adds
    outputs = [node.outputs[0].name for node in graph.graph]
    assert outputs == [*names[:-1], "logits"]


def test_initializers_are_named_after_their_node():
    graph, _ = onnx_from_model(sample_network(resnet_config("preact", 8)))
    for node in graph.graph:
        for value in node.inputs:
            assert not value.is_initializer() or value.name.rpartition(".")[0] == node.name
    assert {"stem.conv.weight", "head.bn.mean", "classifier.bias"} <= set(graph.graph.initializers)


def test_convolution_keeps_its_attributes():
    graph, _ = onnx_from_model(sample_network(resnet_config("preact", 11)))
    conv = node_named(graph, "stage2.0.residual.conv2").attributes
    assert [conv[name].as_ints() for name in ("kernel_shape", "strides", "pads", "dilations")] == [
        (3, 3),
        (2, 2),
        (1, 1, 1, 1),
        (1, 1),
    ]
    assert conv["group"].as_int() == 1


@pytest.mark.parametrize(("variant", "depth"), FOUR_BLOCKS)
def test_torch_exports_the_same_network(variant, depth):
    model = sample_network(resnet_config(variant, depth))
    own, _ = onnx_from_model(model)
    batch = torch.export.Dim("batch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            model, (torch.zeros(2, 3, 32, 32),), dynamo=True, verbose=False, dynamic_shapes=({0: batch},)
        )
    torchs = program.model
    # torch.onnx folds BN into convolutions by itself, so that the two graphs differ in the names alone.
    assert Counter(COMMON_NAMES.get(name, name) for name in op_types(torchs)) == Counter(op_types(own))
    images = sample_images(5)
    expected = run_graph(torchs, images)[0]
    np.testing.assert_allclose(run_graph(own, images)[0], expected, atol=1e-4 * np.abs(expected).max())


def test_callers_model_is_left_alone():
    model = sample_network(resnet_config("preact", 8)).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modules = dict(model.named_modules())
    onnx_from_model(model)
    assert model.training
    assert dict(model.named_modules()) == modules
    after = model.state_dict()
    assert before.keys() == after.keys()
    for name, value in before.items():
        assert torch.equal(after[name], value), name


def test_graph_of_a_model_in_training_mode_is_the_evaluated_one():
    model = sample_network(resnet_config("preact", 8))
    images = sample_images(3)
    expected = logits_of(model, images)
    (actual,) = run_graph(onnx_from_model(model.train())[0], images)
    assert np.abs(actual - expected).max() < 1e-4 * np.abs(expected).max()


def test_half_model_is_exported_in_float32():
    graph, _ = onnx_from_model(sample_network(resnet_config("preact", 8)).half())
    assert {value.dtype for value in graph.graph.initializers.values()} == {ir.DataType.FLOAT}


def test_later_changes_of_the_model_do_not_reach_the_graph():
    model = sample_network(resnet_config("preact", 8))
    graph, _ = onnx_from_model(model)
    before = constant(node_named(graph, "classifier").inputs[1]).copy()
    model.classifier.weight.data.zero_()
    np.testing.assert_array_equal(constant(node_named(graph, "classifier").inputs[1]), before)


class Smooth(PreActBlock):
    """A block with an activation that has no converter."""

    def __init__(self, plans):
        super().__init__(plans)
        self.preact.relu1 = nn.SiLU()


class Weighted(PreActBlock):
    """A block with a function that has no converter in front of the addition."""

    def forward(self, x):
        return super().forward(x) * 0.5


class Doubled(PreActBlock):
    """A block that adds a number, which is no tensor."""

    def forward(self, x):
        return super().forward(x) + 1


@pytest.mark.parametrize(("block", "told"), [(Smooth, "relu1"), (Weighted, "mul"), (Doubled, "add")])
def test_unknown_module_or_function_is_not_converted(monkeypatch, block, told):
    monkeypatch.setattr(models.resnet, "PreActBlock", block)
    with pytest.raises(NotImplementedError, match=told):
        onnx_from_model(sample_network(resnet_config("preact", 8)))
