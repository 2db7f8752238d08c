import copy

import pytest
import torch
from torch import Tensor

from models.config import VARIANTS, resnet_config
from models.resnet import ResNet
from training.execution import Execution
from training.recompute import RecomputedStage, activation_bytes, recompute_stages

FP32 = Execution(arithmetic="fp32")


def step(model: ResNet, images: Tensor) -> Tensor:
    logits = model(images)
    logits.square().mean().backward()
    return logits.detach()


def pair(variant: str, depth: int = 26) -> tuple[ResNet, ResNet]:
    torch.manual_seed(0)
    plain = ResNet(resnet_config(variant, depth)).train()
    recomputed = copy.deepcopy(plain)
    recompute_stages(recomputed)
    return plain, recomputed


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_same_step_to_the_bit(variant: str) -> None:
    plain, recomputed = pair(variant)
    images = torch.randn(4, 3, 32, 32)
    assert torch.equal(step(plain, images), step(recomputed, images))
    pairs = zip(plain.named_parameters(), recomputed.named_parameters(), strict=True)
    for (name, parameter), (recomputed_name, again) in pairs:
        assert name == recomputed_name
        assert parameter.grad is not None
        assert again.grad is not None
        assert torch.equal(parameter.grad, again.grad), name


@pytest.mark.parametrize("variant", VARIANTS)
def test_running_statistics_move_once(variant: str) -> None:
    plain, recomputed = pair(variant)
    images = torch.randn(4, 3, 32, 32)
    step(plain, images)
    step(recomputed, images)
    states = plain.state_dict(), recomputed.state_dict()
    assert states[0].keys() == states[1].keys()
    for name, value in states[0].items():
        assert torch.equal(value, states[1][name]), name
    assert states[1]["stage1.0.residual.bn2.num_batches_tracked"] == 1


def test_blocks_run_twice_in_training_and_once_in_evaluation(monkeypatch: pytest.MonkeyPatch) -> None:
    _, model = pair("preact")
    assert all(isinstance(stage, RecomputedStage) for stage in model.stages())
    calls = []
    model.stage2[2].register_forward_hook(lambda *_: calls.append(1))
    step(model, torch.randn(2, 3, 32, 32))
    assert len(calls) == 2
    with torch.no_grad():
        model.eval()(torch.randn(2, 3, 32, 32))
    assert len(calls) == 3


def test_activations_are_weighed() -> None:
    plain, recomputed = pair("preact", 62)
    before = copy.deepcopy(plain.state_dict())
    images = torch.randn(2, 3, 32, 32)
    held = activation_bytes(plain.train(), images, 128, FP32.autocast())
    assert all(torch.equal(value, before[name]) for name, value in plain.state_dict().items())
    assert activation_bytes(plain, images, 64, FP32.autocast()) == pytest.approx(held / 2, rel=1e-6)
    # In stage 1 each of 10 blocks keeps four maps of 16x32x32 floats for the gradients. Stage 2 keeps half of
    # that and stage 3 a quarter.
    estimate = 128 * 10 * 4 * 16 * 32 * 32 * 4 * 1.75
    assert held == pytest.approx(estimate, rel=0.15)
    assert activation_bytes(recomputed.train(), images, 128, FP32.autocast()) < 0.4 * held
