// Is this still the network that was verified, in this browser and on this device?
//
// The golden pictures are classified, and the answers are compared with those that the model gave where the bundle was
// made. The files are hashed where the browser offers that, which is on https and on localhost.

import { likeliest } from "./network.js";
import { decoded, pixelsOf } from "./pictures.js";

/** Fetch a file of this folder; an Error says which is missing. */
export async function bytesOf(path) {
  const answer = await fetch(path);
  if (!answer.ok) throw new Error(`${path} could not be loaded (status ${answer.status})`);
  return new Uint8Array(await answer.arrayBuffer());
}

/**
 * Test the network on the golden pictures.
 *
 * @returns {passed, reasons}: what was found, a sentence each, and whether all of it is as it should be.
 */
export async function selfTest(network, model) {
  const { golden, tolerance, classes, model: file } = network.description;
  const [fitted, probabilities] = [await bytesOf(golden.fitted), await bytesOf(golden.probabilities)];
  const files = { [file]: model, [golden.fitted]: fitted, [golden.probabilities]: probabilities };
  const findings = [await hashes(network.description, files)];
  const { shares, milliseconds } = await network.classify(fitted);
  findings.push(rightLabels(shares, golden.labels, milliseconds));
  findings.push(nearProbabilities(shares, floats(probabilities), classes.length, tolerance));
  findings.push(await equalPictures(network.description, fitted));
  return { passed: findings.every(({ right }) => right), reasons: findings.map(({ sentence }) => sentence) };
}

function floats(bytes) {
  const view = new DataView(bytes.buffer);
  return Float32Array.from({ length: bytes.length / 4 }, (_, index) => view.getFloat32(index * 4, true));
}

async function hashes(description, files) {
  if (!globalThis.crypto?.subtle) {
    return { right: true, sentence: "The files were not hashed: browsers offer that on https and on localhost only." };
  }
  for (const [path, bytes] of Object.entries(files)) {
    const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
    const found = Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
    if (found !== description.sha256[path]) {
      return { right: false, sentence: `${path} is not the file that was bundled: its sha256 differs.` };
    }
  }
  return { right: true, sentence: "The model and the golden answers have the bundled sha256." };
}

function rightLabels(shares, labels, milliseconds) {
  const right = shares.filter((row, index) => likeliest(row) === labels[index]).length;
  const time = `${(milliseconds / labels.length).toFixed(1)} ms each`;
  return {
    right: right === labels.length && shares.length === labels.length,
    sentence: `${right} of ${labels.length} golden pictures get the class that they should get (${time}).`,
  };
}

function nearProbabilities(shares, expected, classes, tolerance) {
  const differences = shares.flatMap((row, index) =>
    Array.from(row, (share, label) => Math.abs(share - expected[index * classes + label])),
  );
  const largest = Math.max(...differences);
  // NaN, too, is no number within the tolerance.
  return {
    right: expected.length === differences.length && largest <= tolerance,
    sentence: `Their probabilities differ by at most ${largest.toFixed(7)}, and may by ${tolerance}.`,
  };
}

async function equalPictures({ golden, size }, fitted) {
  const length = size * size * 3;
  let equal = 0;
  for (const [index, path] of golden.pictures.entries()) {
    const picture = await decoded(new Blob([await bytesOf(path)]));
    const pixels = pixelsOf(picture, picture.width, picture.height, size);
    equal += pixels.every((value, at) => value === fitted[index * length + at]);
  }
  const count = golden.pictures.length;
  return {
    right: equal === count,
    sentence: `${equal} of ${count} golden pictures are decoded, cut and resized to the very pixels they should have.`,
  };
}
