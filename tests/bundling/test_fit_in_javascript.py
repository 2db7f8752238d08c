"""fit.js gives the pixels of the arithmetic in integers that tests/data/test_fit.py compares with Pillow."""

import json
import subprocess
from pathlib import Path

import numpy as np
from browser import needs_node
from resized_in_integers import fitted_in_integers, odd_pictures

import bundling

SOURCE = Path(bundling.__path__[0], "web", "fit.js")

# Reads pictures as width, height and RGBA from one file, and writes what becomes of each into another.
_PROGRAM = """
import fs from "node:fs";
const { centralSquare, overWhite, resized } = await import(process.argv[2]);
const content = fs.readFileSync(process.argv[3]);
const shapes = JSON.parse(process.argv[4]);
const results = [];
let at = 0;
for (const [width, height] of shapes) {
  const { left, top, side } = centralSquare(width, height);
  const square = new Uint8ClampedArray(side * side * 4);
  for (let row = 0; row < side; row++) {
    const from = at + ((top + row) * width + left) * 4;
    square.set(content.subarray(from, from + side * 4), row * side * 4);
  }
  at += width * height * 4;
  results.push(Buffer.from(resized(overWhite(square), side, 32)));
}
fs.writeFileSync(process.argv[5], Buffer.concat(results));
"""


def _in_javascript(pictures: list[np.ndarray], folder: Path) -> np.ndarray:
    (folder / "program.mjs").write_text(_PROGRAM)
    (folder / "fit.mjs").write_bytes(SOURCE.read_bytes())
    (folder / "pictures").write_bytes(b"".join(picture.tobytes() for picture in pictures))
    shapes = json.dumps([(picture.shape[1], picture.shape[0]) for picture in pictures])
    arguments = [f"file://{folder}/fit.mjs", str(folder / "pictures"), shapes, str(folder / "fitted")]
    subprocess.run(["node", "program.mjs", *arguments], cwd=folder, check=True)
    return np.fromfile(folder / "fitted", np.uint8).reshape(-1, 32, 32, 3)


def _with_alpha(rgb: np.ndarray, alpha: int | np.ndarray) -> np.ndarray:
    return np.concatenate([rgb, np.broadcast_to(alpha, rgb.shape[:2])[..., None]], 2).astype(np.uint8)


@needs_node
def test_four_hundred_pictures_of_odd_sizes_are_equal_to_the_bit(tmp_path: Path) -> None:
    pictures = odd_pictures(400)
    found = _in_javascript([_with_alpha(picture, 255) for picture in pictures], tmp_path)
    assert len(found) == 400
    for picture, fitted in zip(pictures, found, strict=True):
        np.testing.assert_array_equal(fitted, fitted_in_integers(picture), err_msg=str(picture.shape))


@needs_node
def test_transparent_pixels_lie_over_white_with_pythons_rounding(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    rgb, alpha = random.integers(0, 256, (32, 32, 3)), random.integers(0, 256, (32, 32))
    (found,) = _in_javascript([_with_alpha(rgb, alpha)], tmp_path)
    expected = (rgb * alpha[..., None] + 255 * (255 - alpha[..., None]) + 127) // 255
    np.testing.assert_array_equal(found, expected)
