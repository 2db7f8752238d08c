// The model in ONNX Runtime, compiled to WebAssembly.
//
// One thread is used, because more would need the headers Cross-Origin-Opener-Policy and Cross-Origin-Embedder-Policy,
// which not every static server can be told to send.

import * as ort from "./ort/ort.wasm.bundle.min.js";

ort.env.wasm.numThreads = 1;
ort.env.wasm.wasmPaths = { wasm: new URL("ort/ort-wasm-simd-threaded.wasm", document.baseURI).href };

export class Network {
  /** Open the model that page.json describes; `bytes` are the model's. */
  static async open(description, bytes) {
    const session = await ort.InferenceSession.create(bytes, { executionProviders: ["wasm"] });
    return new Network(session, description);
  }

  constructor(session, description) {
    this.session = session;
    this.description = description;
  }

  /**
   * Classify pictures.
   *
   * @param {Uint8Array} pixels of all pictures, one behind the other.
   * @returns the probabilities of each picture as a Float32Array, and how long the network took for all.
   */
  async classify(pixels) {
    const { input, output, size, classes } = this.description;
    const count = pixels.length / (size * size * 3);
    const begun = performance.now();
    const tensor = new ort.Tensor("uint8", pixels, [count, size, size, 3]);
    const data = (await this.session.run({ [input]: tensor }))[output].data;
    const milliseconds = performance.now() - begun;
    const shares = Array.from({ length: count }, (_, row) => data.slice(row * classes.length, (row + 1) * classes.length));
    return { shares, milliseconds };
  }
}

/** The index of the largest of some numbers. */
export function likeliest(shares) {
  return shares.indexOf(Math.max(...shares));
}
