from dataclasses import replace

import numpy as np
import pytest
import torch

from data.dataset import Dataset, Split
from errors import UserError
from training.feed import Batch, Feed
from training.processes import Processes
from training.recipes import recipe_from_name

RECIPE = replace(recipe_from_name("digits", 20), batch_size=32, crop_padding=0)
CPU = torch.device("cpu")


def with_images(digits: Dataset, count: int) -> Dataset:
    return replace(digits, train=Split(digits.train.images[:count], digits.train.labels[:count]))


def epoch(feed: Feed, seed: int = 0) -> list[Batch]:
    return list(feed.epoch(torch.Generator().manual_seed(seed)))


def test_an_epoch_hands_out_every_image_once_as_the_networks_take_it(digits: Dataset) -> None:
    dataset = with_images(digits, 70)
    batches = epoch(Feed(dataset, RECIPE, CPU, Processes()))
    assert [len(batch.labels) for batch in batches] == [32, 32, 6]
    assert [batch.share for batch in batches] == [1, 1, 1]
    images = torch.cat([batch.images for batch in batches])
    assert images.dtype == torch.float32
    wanted = dataset.normalised(dataset.train.images)
    order = [int(np.abs(wanted - image.numpy()).sum((1, 2, 3)).argmin()) for image in images]
    assert len(set(map(bytes, dataset.train.images[order]))) == len(set(map(bytes, dataset.train.images)))
    assert np.allclose(images.numpy(), wanted[order], atol=1e-5)
    assert torch.cat([batch.labels for batch in batches]).tolist() == dataset.train.labels[order].tolist()
    assert order != sorted(order)


def test_order_and_views_are_the_generators(digits: Dataset) -> None:
    feed = Feed(with_images(digits, 70), replace(RECIPE, crop_padding=2), CPU, Processes())
    first, same, reseeded = epoch(feed), epoch(feed), epoch(feed, seed=1)
    assert all(torch.equal(a.images, b.images) for a, b in zip(first, same, strict=True))
    assert not torch.equal(first[0].images, reseeded[0].images)


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("images", [64, 71])
def test_processes_share_the_very_batches_of_one(digits: Dataset, count: int, images: int) -> None:
    dataset = with_images(digits, images)
    recipe = replace(RECIPE, crop_padding=2)
    whole = epoch(Feed(dataset, recipe, CPU, Processes()))
    parts = [epoch(Feed(dataset, recipe, CPU, Processes(rank, count))) for rank in range(count)]
    assert len({len(part) for part in parts}) == 1
    for index, batch in enumerate(whole):
        for rank, part in enumerate(parts):
            assert torch.equal(part[index].images, batch.images[rank::count])
            assert torch.equal(part[index].labels, batch.labels[rank::count])
        # The mean over the processes, weighted by the shares, is the mean over the batch.
        means = [p[index].share * p[index].labels.float().mean() for p in parts]
        assert float(sum(means) / count) == pytest.approx(float(batch.labels.float().mean()))


@pytest.mark.parametrize(
    ("images", "count", "steps"), [(65, 1, 2), (66, 1, 3), (67, 2, 2), (68, 2, 3), (1, 1, 1)]
)
def test_a_rest_too_small_for_batch_norm_is_left_out(
    digits: Dataset, images: int, count: int, steps: int
) -> None:
    feed = Feed(with_images(digits, images), RECIPE, CPU, Processes(0, count))
    assert len(feed) == len(epoch(feed)) == steps


def test_more_processes_than_a_batch_can_feed(digits: Dataset) -> None:
    with pytest.raises(UserError, match="batches of 32 cannot be shared by 17 processes"):
        Feed(digits, RECIPE, CPU, Processes(0, 17))
    with pytest.raises(UserError, match="batches of 3 cannot be shared by 2 processes"):
        Feed(with_images(digits, 3), RECIPE, CPU, Processes(0, 2))


@pytest.mark.parametrize(("images", "handed_out"), [(65, 64), (66, 66), (20, 20), (1, 1)])
def test_images_that_are_handed_out(digits: Dataset, images: int, handed_out: int) -> None:
    feed = Feed(with_images(digits, images), RECIPE, CPU, Processes())
    assert feed.handed_out == handed_out == sum(len(batch.labels) for batch in epoch(feed))
