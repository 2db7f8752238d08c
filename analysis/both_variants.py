"""The stage: both variants at one depth, before and after training, to analysis.json and its plots.

    {"dataset", "depth", "block", "seed", "images", "arithmetic", "networks": [
        {"variant", "trained", "loss", "forward": [IdentitySum…], "backward": [BlockGradient…]}]}

Computed in float64, whose rounding (1e-16) is far below what a broken identity leaves even at depth 1001, and
with the batch's own BN statistics (`skip_path.batch_statistics`).
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

# BN gets 1,024 values a channel in the last stage, and depth 1001 keeps within 2 GB.
DEFAULT_IMAGES = 16


@dataclass(frozen=True)
class Analysis:
    """The content of analysis.json.

    Attributes:
        images: in the batch.
        networks: each variant initialised and, where a run holds trained weights of it, trained.
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
    """Write analysis.json and the plots, unless they are up to date.

    Args:
        config: of either variant; both are measured.
        checkpoints: by variant, the runs in which trained weights of this network may lie.
        images: size of the batch, spread over the calibration split.
        seed: of the initialised weights, those that `train` begins with under the same seed.

    Returns:
        the analysis, and whether anything was measured now.

    Raises:
        UserError: too few or too many images, or a network without identity skips.
        CheckFailed: a loss or gradient is not finite, see `block_gradients`.
    """
    chosen = spread(len(dataset.calibration), images)
    _require_identity_blocks(config)
    runs = {variant: own for variant, own in checkpoints.items() if _is_trained(own)}
    step = _step(config, dataset, images, seed, runs)
    if run.is_current(step) and not force:
        return analysis_in(run), False
    batch = torch.from_numpy(dataset.normalised(dataset.calibration.images[chosen])).double()
    labels = torch.from_numpy(dataset.calibration.labels[chosen])
    with run.writing(step) as folder:
        networks = progress(_networks(config, seed, runs), "analyzing", len(VARIANTS) + len(runs))
        found = [measured(model.double(), batch, labels, trained) for model, trained in networks]
        analysis = Analysis(
            dataset=dataset.name,
            depth=config.depth,
            block=config.block,
            seed=seed,
            images=images,
            arithmetic="float64",
            networks=tuple(found),
        )
        (folder / ANALYSIS).write_text(to_text(analysis))
        for name, text in _plots(found):
            (folder / name).write_text(text)
    return analysis, True


def analysis_in(run: RunDirectory) -> Analysis:
    """The analysis that a run holds; UserError if it holds none."""
    return from_file(Analysis, run.verified(ANALYSIS), "an analysis", "run `analyze --force`")


def spread(available: int, wanted: int) -> NDArray[np.intp]:
    """Indices of `wanted` images, evenly over a split in which classes may lie one behind the other.

    Raises:
        UserError: BN has no statistics over fewer than two, or the split has fewer.
    """
    if not 2 <= wanted <= available:
        raise UserError(
            f"{wanted} images cannot be analyzed: the calibration split has {available}",
            f"give --images 2 to {available}",
        )
    return np.linspace(0, available - 1, wanted).round().astype(np.intp)


def _step(
    config: ResNetConfig, dataset: Dataset, images: int, seed: int, runs: Mapping[str, RunDirectory]
) -> Step:
    """The weights lie in other runs, so their hashes are options and not inputs."""
    return Step(
        stage="analyze",
        options={
            "model": {name: value for name, value in config.to_json().items() if name != "variant"},
            "dataset": dataset.sha256,
            "images": images,
            "seed": seed,
            "weights": {variant: own.record(CHECKPOINT).sha256 for variant, own in runs.items()},
        },
        inputs=(),
        outputs=ANALYSIS_FILES,
        packages=("torch", "matplotlib"),
    )


def _networks(
    config: ResNetConfig, seed: int, runs: Mapping[str, RunDirectory]
) -> Iterator[tuple[ResNet, bool]]:
    """Each network, built when its turn comes, and whether it is trained."""
    for variant in VARIANTS:
        yield initialised(replace(config, variant=variant), seed), False
        if variant in runs:
            yield model_in(runs[variant])[0], True


def _plots(networks: list[Measured]) -> Iterable[tuple[str, str]]:
    yield GRADIENT_PLOT, gradient_plot(networks)
    yield SKIP_PLOT, skip_term_plot(networks)
    yield DEAD_PLOT, dead_path_plot(networks)


def _is_trained(run: RunDirectory) -> bool:
    """What an interrupted training left is neither the one nor the other."""
    return CHECKPOINT_CARD in run and card_in(run).is_finished


def _require_identity_blocks(config: ResNetConfig) -> None:
    if config.blocks_per_stage == 1 and config.projections == len(STAGE_WIDTHS):
        raise UserError(
            f"every block of this ResNet-{config.depth} has a projection, so no skip path is the identity",
            "analyze a network with two blocks a stage or more, such as --depth 20",
        )
