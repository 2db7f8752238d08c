"""The audit refuses networks whose blocks are written wrongly in PyTorch."""

import pytest
from sample_networks import sample_graph
from skip_path_faults import refusal_of
from torch import nn

import models.resnet
from export.audit import audit
from models.blocks import ConvPlan, PreActBlock, convolution, shortcut_plan
from models.config import resnet_config


class ActivatedShortcut(PreActBlock):
    """A block with a widely copied mistake: the identity, too, starts at the activated input."""

    def forward(self, x):
        activated = self.preact(x)
        shortcut = activated if self.projection is None else self.projection(activated)
        return shortcut + self.residual(activated)


class RawProjection(PreActBlock):
    """A block whose projection reads x_l itself."""

    def forward(self, x):
        shortcut = x if self.projection is None else self.projection(x)
        return shortcut + self.residual(self.preact(x))


class ProjectionThenActivation(PreActBlock):
    """A block with an activation behind the projection."""

    def __init__(self, plans):
        super().__init__(plans)
        if self.projection is not None:
            self.projection = nn.Sequential(
                self.projection, nn.ReLU(), nn.BatchNorm2d(plans[-1].out_channels)
            )


class SecondActivation(PreActBlock):
    """A block whose projection reads another activation than F."""

    def __init__(self, plans):
        super().__init__(plans)
        self.second = PreActBlock(plans).preact

    def forward(self, x):
        shortcut = x if self.projection is None else self.projection(self.second(x))
        return shortcut + self.residual(self.preact(x))


class NeedlessProjection(PreActBlock):
    """A block that has a projection even where the shape does not change."""

    def __init__(self, plans):
        super().__init__(plans)
        if shortcut_plan(plans) is None:
            self.projection = convolution(ConvPlan(plans[0].in_channels, plans[-1].out_channels, 1, 1))


class Activated(PreActBlock):
    """A block with a ReLU behind the addition."""

    def __init__(self, plans):
        super().__init__(plans)
        self.relu = nn.ReLU()

    def forward(self, x):
        return self.relu(super().forward(x))


@pytest.mark.parametrize(
    ("block", "depth", "told"),
    [
        # At depth 8 only the first block is an identity, and its BN folds into the stem.
        (ActivatedShortcut, 8, "Relu stage1.0.preact.relu1 stands on the skip path to stage1.0.add"),
        (ActivatedShortcut, 14, "BatchNormalization stage1.1.preact.bn1 stands on the skip path"),
        (ActivatedShortcut, 20, "BatchNormalization stage1.1.preact.bn1 stands on the skip path"),
        (ActivatedShortcut, 29, "BatchNormalization stage1.1.preact.bn1 stands on the skip path"),
        (RawProjection, 8, "Conv stage2.0.projection stands behind stage1.0.add, on the skip path"),
        (RawProjection, 11, "Conv stage1.0.projection stands on the skip path to stage1.0.add"),
        (ProjectionThenActivation, 8, "Relu stage2.0.projection.1 stands on the skip path to stage2.0.add"),
        (SecondActivation, 8, "BatchNormalization stage2.0.second.bn1 stands on the skip path alone"),
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
