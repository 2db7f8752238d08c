"""Images a second of three trainings: bare steps, the loop of skipfold, and a plain loop.

    python benchmarks/training_throughput.py --data-dir DIR [--depth 20] [--device cuda] [--images 12800]

The three take turns in one process, with the same network and batch size. The figure of each is the median of
the rounds:

    bare     forward pass, backward pass and step on one fixed batch, in the arithmetic and layout of the loop
    loop     an epoch of skipfold, with the augmentation and a share of the evaluation
    plain    float32 in NCHW, a DataLoader that transforms single images, and loss.item() after each step

The script prints the table of `results/training.md`.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from artifacts.run_directory import RunDirectory
from benchmarks.markdown import machine_lines, markdown_table
from data.dataset import Dataset, Split
from data.load import dataset_from_name
from models.config import VARIANTS, resnet_config
from models.resnet import ResNet
from training.checkpoint_from_dataset import checkpoint_from_dataset
from training.execution import ARITHMETIC, Execution
from training.recipes import Recipe, recipe_from_name
from vocabulary import Device

COLUMNS = [
    "variant",
    "depth",
    "arithmetic",
    "threads",
    "bare",
    "loop",
    "loop / bare",
    "plain",
    "loop / plain",
]


def main() -> None:
    """Measure and print."""
    arguments = _arguments()
    whole = dataset_from_name("cifar10", arguments.data_dir)
    dataset = _part(whole, arguments.images)
    recipe = replace(recipe_from_name("modern", arguments.depth), epochs=1)
    execution = Execution(arguments.device)
    rows = []
    for variant in VARIANTS:
        rates = _rates(dataset, recipe, execution, variant, arguments)
        bare, loop, plain = (statistics.median(rates[name]) for name in ("bare", "loop", "plain"))
        rows.append(
            [
                variant,
                str(arguments.depth),
                ARITHMETIC[execution.chosen_arithmetic()],
                str(torch.get_num_threads()),
                *[f"{bare:,.0f}", f"{loop:,.0f}", f"{loop / bare:.2f}"],
                *[f"{plain:,.0f}", f"{loop / plain:.2f}"],
            ]
        )
    print(f"Command: `python {' '.join(sys.argv)}`\n\n{machine_lines()}\n")
    print(markdown_table(COLUMNS, rows))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data-dir", type=Path, help="folder of CIFAR-10's parquet files")
    parser.add_argument("--depth", type=int, default=20)
    parser.add_argument("--device", default=Device.cpu, choices=list(Device))
    parser.add_argument("--images", type=int, default=12_800, help="number of images in an epoch")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, help="default: all cores")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    return arguments


def _part(dataset: Dataset, images: int) -> Dataset:
    """Return a smaller data set, in which the proportion of held-out images is the same.

    Evaluation then takes the same share of an epoch as with the whole data set.
    """

    def first(split: Split) -> Split:
        count = round(len(split) * images / len(dataset.train))
        return Split(split.images[:count], split.labels[:count])

    return replace(
        dataset, train=first(dataset.train), calibration=first(dataset.calibration), test=first(dataset.test)
    )


def _rates(
    dataset: Dataset, recipe: Recipe, execution: Execution, variant: str, arguments: argparse.Namespace
) -> dict[str, list[float]]:
    config = resnet_config(variant, arguments.depth)
    bare = _BareSteps(ResNet(config), dataset, recipe, execution)
    plain = _PlainLoop(ResNet(config), dataset, recipe, execution)

    def loop() -> int:
        # The rate in the log leaves the evaluation out, and `seconds` includes it.
        lines = []
        with tempfile.TemporaryDirectory() as folder:
            checkpoint_from_dataset(
                RunDirectory(Path(folder)),
                config,
                dataset,
                recipe,
                execution=execution,
                after_epoch=lambda model, line: lines.append(line["seconds"]),
            )
        elapsed.append(lines[0])
        return len(dataset.train)

    elapsed: list[float] = []
    rates: dict[str, list[float]] = {"bare": [], "loop": [], "plain": []}
    for number in range(arguments.rounds):
        rates["bare"].append(_rate(bare.run, execution))
        rates["loop"].append(loop() / elapsed[-1])
        rates["plain"].append(_rate(plain.run, execution))
        print(variant, number, {name: round(values[-1]) for name, values in rates.items()}, file=sys.stderr)
    return rates


def _rate(work: Callable[[], int], execution: Execution) -> float:
    started = time.perf_counter()
    images = work()
    if execution.device == Device.cuda:
        torch.cuda.synchronize()
    return images / (time.perf_counter() - started)


class _BareSteps:
    """The steps of an epoch, all on one batch that lies on the device."""

    def __init__(self, model: ResNet, dataset: Dataset, recipe: Recipe, execution: Execution) -> None:
        device = execution.torch_device()
        batch = dataset.normalised(dataset.train.images[: recipe.batch_size])
        self._images = torch.from_numpy(batch).to(device).to(memory_format=torch.channels_last)
        self._labels = torch.from_numpy(dataset.train.labels[: recipe.batch_size]).to(device)
        self._steps = len(dataset.train) // recipe.batch_size
        self._model = model.to(device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
        self._optimizer = torch.optim.SGD(
            model.parameters(), lr=0.01, momentum=0.9, nesterov=True, fused=True
        )
        self._execution = execution
        self._step()

    def run(self) -> int:
        for _ in range(self._steps):
            self._step()
        return self._steps * len(self._labels)

    def _step(self) -> None:
        with self._execution.autocast():
            logits = self._model(self._images)
            loss = nn.functional.cross_entropy(logits.float(), self._labels)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self._optimizer.step()


class _SingleImages(TorchDataset[tuple[Tensor, int]]):
    """A data set that crops, mirrors and normalises one image at a time."""

    def __init__(self, dataset: Dataset, padding: int) -> None:
        self._split, self._padding = dataset.train, padding
        self._mean, self._std = (torch.tensor(values).view(3, 1, 1) for values in (dataset.mean, dataset.std))

    def __len__(self) -> int:
        return len(self._split)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = torch.from_numpy(self._split.images[index]).float() / 255
        padded = nn.functional.pad(image, (self._padding,) * 4)
        row, column = torch.randint(0, 2 * self._padding + 1, (2,)).tolist()
        image = padded[:, row : row + 32, column : column + 32]
        if torch.rand(()) < 0.5:
            image = image.flip(2)
        return (image - self._mean) / self._std, int(self._split.labels[index])


class _PlainLoop:
    """An epoch as PyTorch tutorials write it."""

    def __init__(self, model: ResNet, dataset: Dataset, recipe: Recipe, execution: Execution) -> None:
        self._device = execution.torch_device()
        self._model = model.to(self._device).train()
        self._loader = DataLoader(
            _SingleImages(dataset, recipe.crop_padding), recipe.batch_size, shuffle=True, num_workers=2
        )
        self._optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)

    def run(self) -> int:
        seen, total = 0, 0.0
        for images, labels in self._loader:
            self._optimizer.zero_grad()
            loss = nn.functional.cross_entropy(self._model(images.to(self._device)), labels.to(self._device))
            loss.backward()
            self._optimizer.step()
            total += loss.item()
            seen += len(labels)
        return seen


if __name__ == "__main__":
    main()
