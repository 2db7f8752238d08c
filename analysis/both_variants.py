"""The stage `analyze`: it measures both variants at one depth and writes analysis.json and the plots.

    {"dataset", "depth", "block", "seed", "images", "arithmetic", "networks": [
        {"variant", "trained", "loss", "forward": [IdentitySum…], "backward": [BlockGradient…]}]}

Each variant is measured with initial weights and, if a run holds them, with trained weights. The computation
is in float64, because the rounding of float64 (1e-16) is far below the error of a broken identity even at
depth 1001. BN uses the statistics of the batch (`branches.batch_statistics`).
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from analysis.curves import dead_path_plot, gradient_plot, skip_term_plot
from analysis.network import Measured, measured
from artifacts.json_codec import from_file, to_text
from artifacts.names import (
    ANALYSIS,
    ANALYSIS_FILES,
    CHECKPOINT,
    CHECKPOINT_CARD,
    DEAD_PLOT,
    GRADIENT_PLOT,
    SKIP_PLOT,
)
from artifacts.records import Step
from artifacts.run_directory import RunDirectory
from data.dataset import Dataset
from errors import UserError
from models.checkpoint import card_in, model_in
from models.config import STAGE_WIDTHS, VARIANTS, ResNetConfig
from models.resnet import ResNet, initialised
from progress import Progress, silent

# With 16 images BN has 1,024 values a channel in the last stage, and depth 1001 needs less than 2 GB.
DEFAULT_IMAGES = 16


@dataclass(frozen=True)
class Analysis:
    """The content of analysis.json.

    Attributes:
        images: the number of images in the batch.
        networks: each variant with initial weights and, if a run holds them, with trained weights.
    """

    dataset: str
    depth: int
    block: str
    seed: int
    images: int
    arithmetic: str
    networks: tuple[Measured, ...]


def analysis_from_networks(
    run: RunDirectory,
    dataset: Dataset,
    config: ResNetConfig,
    checkpoints: Mapping[str, RunDirectory],
    images: int = DEFAULT_IMAGES,
    seed: int = 0,
    force: bool = False,
    progress: Progress = silent,
) -> tuple[Analysis, bool]:
    """Write analysis.json and the plots, unless the files are up to date.

    Args:
        config: the network, in either variant, because both variants are measured.
        checkpoints: for each variant, the run that may hold trained weights of this network.
        images: the size of the batch, which is spread over the calibration split.
        seed: decides the initial weights, which are those that `train` begins with under the same seed.
        force: measures even if the files are up to date.

    Returns:
        The analysis, and whether this call measured it.

    Raises:
        UserError: there are too few or too many images, or the network has no identity skips.
        CheckFailed: the loss or a gradient is not finite; see `block_gradients`.
    """
    chosen = spread(len(dataset.calibration), images)
    _require_identity_blocks(config)
    runs = {variant: trained for variant, trained in checkpoints.items() if _is_trained(trained)}
    step = _step(config, dataset, images, seed, runs)
    if run.is_current(step) and not force:
        return analysis_in(run), False
    batch = torch.from_numpy(dataset.normalised(dataset.calibration.images[chosen])).double()
    labels = torch.from_numpy(dataset.calibration.labels[chosen])
    with run.writing(step) as folder:
        networks = progress(_networks(config, seed, runs), "analyzing", len(VARIANTS) + len(runs))
        rows = [measured(model.double(), batch, labels, trained) for model, trained in networks]
        analysis = Analysis(
            dataset=dataset.name,
            depth=config.depth,
            block=config.block,
            seed=seed,
            images=images,
            arithmetic="float64",
            networks=tuple(rows),
        )
        (folder / ANALYSIS).write_text(to_text(analysis))
        for name, text in _plots(rows):
            (folder / name).write_text(text, encoding="utf-8")
    return analysis, True


def analysis_in(run: RunDirectory) -> Analysis:
    """Return the analysis that a run holds, or raise UserError if the run holds no intact analysis."""
    return from_file(Analysis, run.verified(ANALYSIS), "an analysis", "run `analyze --force`")


def spread(available: int, wanted: int) -> NDArray[np.intp]:
    """Return the indices of `wanted` images, spread evenly over a split that may be ordered by classes.

    Raises:
        UserError: fewer than two images are wanted, which give BN no statistics, or more than the split has.
    """
    if not 2 <= wanted <= available:
        raise UserError(
            f"--images {wanted} cannot be analyzed, because the calibration split has {available} images",
            f"give --images 2 to {available}",
        )
    return np.linspace(0, available - 1, wanted).round().astype(np.intp)


def _step(
    config: ResNetConfig, dataset: Dataset, images: int, seed: int, runs: Mapping[str, RunDirectory]
) -> Step:
    """Return the step, whose options hold the hashes of the weights, because these lie in other runs."""
    return Step(
        stage="analyze",
        options={
            "model": {name: value for name, value in config.to_json().items() if name != "variant"},
            "dataset": dataset.sha256,
            "images": images,
            "seed": seed,
            "weights": {variant: trained.record(CHECKPOINT).sha256 for variant, trained in runs.items()},
        },
        inputs=(),
        outputs=ANALYSIS_FILES,
        packages=("torch", "matplotlib"),
    )


def _networks(
    config: ResNetConfig, seed: int, runs: Mapping[str, RunDirectory]
) -> Iterator[tuple[ResNet, bool]]:
    """Yield each network when its turn comes, and whether the network is trained."""
    for variant in VARIANTS:
        yield initialised(replace(config, variant=variant), seed), False
        if variant in runs:
            yield model_in(runs[variant])[0], True


def _plots(networks: list[Measured]) -> Iterable[tuple[str, str]]:
    yield GRADIENT_PLOT, gradient_plot(networks)
    yield SKIP_PLOT, skip_term_plot(networks)
    yield DEAD_PLOT, dead_path_plot(networks)


def _is_trained(run: RunDirectory) -> bool:
    """Return whether the run holds weights of a finished training, which was not interrupted."""
    return CHECKPOINT_CARD in run and card_in(run).is_finished


def _require_identity_blocks(config: ResNetConfig) -> None:
    if config.blocks_per_stage == 1 and config.projections == len(STAGE_WIDTHS):
        raise UserError(
            f"every block of this ResNet-{config.depth} has a projection, so no skip path is the identity",
            "analyze a network with at least two blocks a stage, such as --depth 20",
        )
