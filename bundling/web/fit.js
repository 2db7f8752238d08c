// Cut a picture to its central square and resize the square, equal to the bit to `data/fit.py`.
//
// A canvas resizes with a filter of the browser's own, so that each browser would feed the network other pixels.
// The arithmetic here is that of Pillow's antialiased bilinear filter: a triangle that reaches `support` pixels to both
// sides of the centre, coefficients in 22 bits, sums that begin at one half, and 8 bits between the two passes. A sum is
// at most 255 * 2^22 + 2^21, which fits into the 32 bits of `>>`.

const PRECISION_BITS = 32 - 8 - 2;

/** Return where the central square of a picture begins, and its side. */
export function centralSquare(width, height) {
  const side = Math.min(width, height);
  return { left: Math.floor((width - side) / 2), top: Math.floor((height - side) / 2), side };
}

/**
 * Lay a picture over white.
 *
 * @param {Uint8ClampedArray} rgba pixels as `getImageData` gives them.
 * @returns {Uint8Array} three bytes a pixel, red, green and blue.
 */
export function overWhite(rgba) {
  const rgb = new Uint8Array((rgba.length / 4) * 3);
  for (let from = 0, to = 0; from < rgba.length; from += 4) {
    const alpha = rgba[from + 3];
    for (let channel = 0; channel < 3; channel++) {
      const sum = rgba[from + channel] * alpha + 255 * (255 - alpha);
      rgb[to++] = Math.floor((sum + 127) / 255);
    }
  }
  return rgb;
}

/**
 * Resize a square.
 *
 * @param {Uint8Array} rgb pixels of a square, three bytes each, row by row.
 * @param {number} side of the square.
 * @param {number} size of the result, for example 32.
 * @returns {Uint8Array} size x size x 3 bytes.
 */
export function resized(rgb, side, size) {
  if (side === size) return rgb;
  const filter = coefficients(side, size);
  const rows = alongRows(rgb, side, side, filter);
  return transposed(alongRows(transposed(rows, side, size), size, side, filter), size, size);
}

/** For each output pixel, the first input pixel that it reads and the coefficients from there on. */
function coefficients(length, outputs) {
  const scale = length / outputs;
  const support = Math.max(scale, 1);
  return Array.from({ length: outputs }, (_, output) => {
    const centre = (output + 0.5) * scale;
    const first = Math.max(Math.trunc(centre - support + 0.5), 0);
    const last = Math.min(Math.trunc(centre + support + 0.5), length);
    const weights = [];
    for (let x = first; x < last; x++) {
      weights.push(Math.max(1 - Math.abs((x - centre + 0.5) * (1 / support)), 0));
    }
    const total = weights.reduce((sum, weight) => sum + weight, 0);
    const rounded = weights.map((weight) => Math.trunc(0.5 + (weight / total) * (1 << PRECISION_BITS)));
    return { first, weights: Int32Array.from(rounded) };
  });
}

/** Resize each of `count` rows of `length` pixels. */
function alongRows(rgb, count, length, filter) {
  const result = new Uint8Array(count * filter.length * 3);
  let to = 0;
  for (let row = 0; row < count; row++) {
    for (const { first, weights } of filter) {
      const from = (row * length + first) * 3;
      for (let channel = 0; channel < 3; channel++) {
        let sum = 1 << (PRECISION_BITS - 1);
        for (let tap = 0; tap < weights.length; tap++) sum += rgb[from + tap * 3 + channel] * weights[tap];
        result[to++] = Math.min(sum >> PRECISION_BITS, 255);
      }
    }
  }
  return result;
}

/** Turn rows into columns. */
function transposed(rgb, rows, columns) {
  const result = new Uint8Array(rgb.length);
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      const from = (row * columns + column) * 3;
      const to = (column * rows + row) * 3;
      result[to] = rgb[from];
      result[to + 1] = rgb[from + 1];
      result[to + 2] = rgb[from + 2];
    }
  }
  return result;
}
