"""The training loop: one stage, data set to checkpoint, continued where it was interrupted.

The whole training split lies on the device as one uint8 tensor and is augmented there, a batch at a
time. Nothing is copied to the host inside an epoch. After each epoch the weights, momenta and random
state are written; a rerun with the same options continues from there and ends with the same weights
on the same CPU. The test split is looked at once, after the last epoch, and chooses nothing.
"""

import json
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from artifacts import CHECKPOINT, CHECKPOINT_CARD, TRAINING_LOG, RunDirectory, Step
from data.dataset import Dataset, Split
from errors import CheckFailed, UserError
from models.checkpoint import CheckpointCard, card_in
from models.config import ResNetConfig
from models.resnet import ResNet
from progress import Progress, silent
from training.augment import augmented
from training.checkpoints import card_of, refuse_to_replace, write_checkpoint
from training.recipes import Recipe

# Of a training that goes on; beside the finished one's files, which stay until it ends.
STATE = "training-state.safetensors"
STATE_LOG = "training-state.jsonl"
_EVALUATION_BATCH = 500


@dataclass
class _Run:
    """What changes while training, and is saved after every epoch."""

    model: ResNet
    optimizer: torch.optim.SGD
    generator: torch.Generator
    log: list[dict[str, Any]] = field(default_factory=list)


def checkpoint_from_dataset(
    run: RunDirectory,
    config: ResNetConfig,
    dataset: Dataset,
    recipe: Recipe,
    seed: int = 0,
    device: str = "cpu",
    force: bool = False,
    progress: Progress = silent,
) -> CheckpointCard:
    """Train a network and write its checkpoint and training.jsonl.

    Args:
        device: "cpu" or "cuda".
        force: replace a trained checkpoint made with other options, or with these. An interrupted
            training is continued all the same.

    Raises:
        UserError: a trained checkpoint with other options stands there; no such device.
        CheckFailed: the loss is not finite; names the step and the learning rate.
    """
    step = _step(config, dataset, recipe, seed)
    if not force:
        if run.is_current(step):
            return card_in(run)
        refuse_to_replace(run)
    torch_device = device_named(device)
    images = torch.from_numpy(dataset.train.images).to(torch_device)
    labels = torch.from_numpy(dataset.train.labels).to(torch_device)
    state = _start(config, seed, recipe, torch_device)
    _resume(run, step, state)
    steps = recipe.epochs * _batches(len(labels), recipe.batch_size)
    for epoch in range(len(state.log), recipe.epochs):
        started = time.perf_counter()
        losses, correct = _train_epoch(state, images, labels, dataset, recipe, steps, progress)
        state.log.append(
            {
                "epoch": epoch + 1,
                "loss": float(losses.mean()),
                "train_accuracy": 100 * correct / len(labels),
                "held_out_accuracy": accuracy_of(state.model, dataset, dataset.calibration),
                "seconds": round(time.perf_counter() - started, 2),
            }
        )
        _save_state(run, step, state)
    test_accuracy = accuracy_of(state.model, dataset, dataset.test)
    training = {
        "recipe": recipe.to_json(),
        "seed": seed,
        "arithmetic": "bfloat16 autocast" if _uses_bfloat16(torch_device) else "float32",
        "device": torch_device.type,
        "torch": torch.__version__,
        "seconds": round(sum(line["seconds"] for line in state.log), 1),
        "test_accuracy": test_accuracy,
    }
    card = card_of(config, dataset, trained=True, training=training)
    with run.writing(step) as folder:
        write_checkpoint(folder, state.model, card)
        (folder / TRAINING_LOG).write_text(_lines(state.log))
    for name in (STATE, STATE_LOG):
        run.discard(name)
    return card


def accuracy_of(model: nn.Module, dataset: Dataset, split: Split) -> float:
    """Top-1 accuracy in percent, in float32 and evaluation mode."""
    device = next(model.parameters()).device
    model.eval()
    correct = 0
    with torch.no_grad():
        for start in range(0, len(split), _EVALUATION_BATCH):
            part = slice(start, start + _EVALUATION_BATCH)
            logits = model(torch.from_numpy(dataset.normalised(split.images[part])).to(device))
            correct += int((logits.argmax(1).cpu().numpy() == split.labels[part]).sum())
    return 100 * correct / len(split)


def device_named(name: str) -> torch.device:
    """A torch device that is there; UserError says what is missing."""
    if name == "cpu":
        return torch.device("cpu")
    if name == "cuda" and torch.cuda.is_available():
        return torch.device("cuda")
    if name == "cuda":
        raise UserError(
            "PyTorch sees no CUDA device here", "use --device cpu, or install a CUDA build of torch"
        )
    raise UserError(f"unknown device '{name}'", "use cpu or cuda")


def _step(config: ResNetConfig, dataset: Dataset, recipe: Recipe, seed: int) -> Step:
    return Step(
        stage="train",
        options={
            "model": config.to_json(),
            "dataset": dataset.sha256,
            "recipe": recipe.to_json(),
            "seed": seed,
        },
        inputs=(),
        outputs=(CHECKPOINT, CHECKPOINT_CARD, TRAINING_LOG),
    )


def _start(config: ResNetConfig, seed: int, recipe: Recipe, device: torch.device) -> _Run:
    torch.manual_seed(seed)
    model = ResNet(config).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in model.parameters() if p.ndim <= 1]},
    ]
    optimizer = torch.optim.SGD(
        groups,
        lr=recipe.peak_rate,
        momentum=recipe.momentum,
        nesterov=True,
        fused=True,
    )
    return _Run(model, optimizer, torch.Generator().manual_seed(seed))


def _train_epoch(
    state: _Run,
    images: Tensor,
    labels: Tensor,
    dataset: Dataset,
    recipe: Recipe,
    steps: int,
    progress: Progress,
) -> tuple[Tensor, int]:
    """One pass; returns the loss of each step (on the host) and the number of correct answers."""
    device, epoch = images.device, len(state.log)
    per_epoch = _batches(len(labels), recipe.batch_size)
    losses = torch.zeros(per_epoch, device=device)
    correct = torch.zeros((), dtype=torch.int64, device=device)
    loss_function = nn.CrossEntropyLoss(label_smoothing=recipe.label_smoothing)
    state.model.train()
    batches = _shuffled_batches(images, labels, dataset, recipe, state.generator)
    for index, (inputs, targets) in enumerate(progress(batches, _bar_text(state.log, recipe), per_epoch)):
        for group in state.optimizer.param_groups:
            group["lr"] = recipe.rate_at(epoch * per_epoch + index, steps)
        with _autocast(device):
            logits = state.model(inputs)
            loss = loss_function(logits.float(), targets)
        state.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        state.optimizer.step()
        losses[index] = loss.detach()
        correct += (logits.detach().argmax(1) == targets).sum()
    losses = losses.cpu()
    if not losses.isfinite().all():
        first = int((~losses.isfinite()).nonzero()[0])
        number = epoch * per_epoch + first
        raise CheckFailed(
            f"the loss is not finite at step {number + 1} of {steps}, "
            f"learning rate {recipe.rate_at(number, steps):.4g}",
            "lower the peak learning rate with --peak-rate",
        )
    return losses, int(correct)


def _shuffled_batches(
    images: Tensor, labels: Tensor, dataset: Dataset, recipe: Recipe, generator: torch.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    device = images.device
    mean = torch.tensor(dataset.mean, device=device).view(1, -1, 1, 1)
    std = torch.tensor(dataset.std, device=device).view(1, -1, 1, 1)
    fill = (mean.flatten() * 255).round().to(torch.uint8)
    order = torch.randperm(len(labels), generator=generator).to(device)
    for chosen in order.split(recipe.batch_size):
        if len(chosen) < 2 <= len(labels):
            continue  # BN has no variance over a single image
        batch = augmented(images[chosen], recipe.crop_padding, recipe.flip, fill, generator)
        yield (batch.float() / 255 - mean) / std, labels[chosen]


def _batches(count: int, size: int) -> int:
    full, rest = divmod(count, size)
    return full + (rest > 1 or full == 0)


def _bar_text(log: list[dict[str, Any]], recipe: Recipe) -> str:
    text = f"epoch {len(log) + 1}/{recipe.epochs}"
    if log:
        text += f"  loss {log[-1]['loss']:.3f}  held-out {log[-1]['held_out_accuracy']:.1f} %"
    return text


def _uses_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 is arithmetic here, not an emulation many times slower than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def _autocast(device: torch.device):  # type: ignore[no-untyped-def]
    if not _uses_bfloat16(device):
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


def _save_state(run: RunDirectory, step: Step, state: _Run) -> None:
    from safetensors.torch import save

    tensors = {f"model.{k}": v.contiguous() for k, v in state.model.state_dict().items()}
    for name, parameter in state.model.named_parameters():
        tensors[f"momentum.{name}"] = state.optimizer.state[parameter]["momentum_buffer"].contiguous()
    tensors["generator"] = state.generator.get_state()
    with run.writing(_saving(step)) as folder:
        (folder / STATE).write_bytes(save(tensors))
        (folder / STATE_LOG).write_text(_lines(state.log))


def _saving(step: Step) -> Step:
    return Step("train", step.options, (), (STATE, STATE_LOG))


def _resume(run: RunDirectory, step: Step, state: _Run) -> None:
    """Continue a run with the same options; one with others is begun anew."""
    from safetensors.torch import load_file

    if not run.is_current(_saving(step)):
        return
    tensors = load_file(run.verified(STATE))
    state.model.load_state_dict(
        {k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")}
    )
    for name, parameter in state.model.named_parameters():
        buffer = torch.empty_like(parameter).copy_(tensors[f"momentum.{name}"])
        state.optimizer.state[parameter]["momentum_buffer"] = buffer
    state.generator.set_state(tensors["generator"])
    state.log = [json.loads(line) for line in run.verified(STATE_LOG).read_text().splitlines()]


def _lines(log: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(line) + "\n" for line in log)
