// From files and video frames to the pixels that the network takes.

import { centralSquare, overWhite, resized } from "./fit.js";

/** Decode a picture file, upright and without the colour management that Python does not do either. */
export function decoded(blob) {
  return createImageBitmap(blob, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
}

/**
 * Cut and resize a picture.
 *
 * @param source an ImageBitmap or a video element.
 * @param {number} width of the source; `height` likewise.
 * @param {number} size of the network's pictures.
 * @returns {Uint8Array} size x size x 3 bytes.
 */
export function pixelsOf(source, width, height, size) {
  const { left, top, side } = centralSquare(width, height);
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = side;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  // The square is copied pixel by pixel; its resizing is left to fit.js.
  context.drawImage(source, left, top, side, side, 0, 0, side, side);
  return resized(overWhite(context.getImageData(0, 0, side, side).data), side, size);
}

/** Show the pixels that the network was given. */
export function canvasOf(pixels, size) {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = size;
  const image = new ImageData(size, size);
  for (let pixel = 0; pixel < size * size; pixel++) {
    image.data.set([...pixels.subarray(pixel * 3, pixel * 3 + 3), 255], pixel * 4);
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}
