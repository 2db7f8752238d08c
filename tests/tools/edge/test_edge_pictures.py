"""The fixtures of the decoders: Pillow reads them, and C++ refuses few that Python reads."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.images import image_from_bytes
from errors import UserError
from tools.edge.pictures import all_samples, write_pictures
from tools.edge.png_chunks import png

# Python reads these, and C++ refuses them with a sentence (edge/apps/pictures/picture.hpp).
REFUSED_IN_CPP_ONLY = {
    "png-16-grey-transparent.png", "png-grey-2-transparent.png", "png-grey-4-transparent.png",
    "orientation-xmp.jpg", "orientation-xmp.png", "orientation-profile.png",
    "pnm-white-is-100.pnm", "pnm-text.pnm", "broken-format.png",
}  # fmt: skip


@pytest.mark.parametrize("interlaced", [False, True])
def test_pillow_reads_what_is_written(interlaced: bool) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (11, 13, 3), np.uint8)
    content = png(13, 8, 2, pixels, interlaced=interlaced)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(content))), pixels)


def test_a_sample_that_is_to_be_refused_is_broken_or_named_here() -> None:
    read = set()
    for name, content, refused in all_samples():
        try:
            image_from_bytes(content, name)
        except UserError:
            assert refused, name
        else:
            if refused:
                read.add(name)
    assert read == REFUSED_IN_CPP_ONLY


def test_every_picture_has_its_expectation(tmp_path: Path) -> None:
    count = write_pictures(tmp_path / "pictures")
    suffixes = [path.suffix for path in (tmp_path / "pictures").iterdir()]
    assert suffixes.count(".ppm") + suffixes.count(".refused") == count
    assert len(suffixes) == 2 * count
