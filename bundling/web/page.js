// What the page shows, and what its buttons do.

import { Network } from "./network.js";
import { canvasOf, decoded, pixelsOf } from "./pictures.js";
import { bytesOf, selfTest } from "./self_test.js";

const SHOWN_CLASSES = 5;
const element = (id) => document.getElementById(id);

main();

async function main() {
  try {
    const description = await (await fetch("page.json")).json();
    describe(description);
    const model = await bytesOf(description.model);
    const network = await Network.open(description, model);
    listen(network);
    const { passed, reasons } = await selfTest(network, model);
    showVerdict(passed ? "pass" : "fail", reasons);
  } catch (error) {
    showVerdict("fail", [`The model could not be tested: ${error.message}`]);
  }
}

function describe({ title, subtitle, about }) {
  document.title = title;
  element("title").textContent = title;
  element("subtitle").textContent = subtitle;
  element("about").textContent = about;
}

function showVerdict(state, reasons) {
  element("verdict-title").textContent =
    state === "pass"
      ? "Self-test: pass. This is the network that was verified."
      : "Self-test: fail. Do not trust what this page says of a picture.";
  element("verdict-reasons").replaceChildren(...reasons.map((reason) => made("li", {}, reason)));
  element("verdict").dataset.state = state;
}

function listen(network) {
  const files = element("files");
  files.addEventListener("change", () => classifyFiles(network, [...files.files]));
  element("golden").addEventListener("click", () => classifyGolden(network));
  element("camera").addEventListener("click", () => watchCamera(network));
  element("stop").addEventListener("click", stopCamera);
  document.addEventListener("paste", (event) => classifyFiles(network, [...event.clipboardData.files]));
  acceptDrops(network);
  for (const id of ["files", "golden", "camera"]) element(id).disabled = false;
}

/** The whole window takes drops: a picture that misses the frame would otherwise replace the page. */
function acceptDrops(network) {
  const drop = element("drop");
  const mark = (over) => (event) => {
    event.preventDefault();
    drop.classList.toggle("over", over);
  };
  window.addEventListener("dragover", mark(true));
  window.addEventListener("dragleave", mark(false));
  window.addEventListener("drop", (event) => {
    mark(false)(event);
    classifyFiles(network, [...event.dataTransfer.files]);
  });
}

async function classifyGolden(network) {
  const { golden } = network.description;
  const files = await Promise.all(
    golden.pictures.map(async (path) => new File([await bytesOf(path)], path.split("/").pop())),
  );
  await classifyFiles(network, files);
}

async function classifyFiles(network, files) {
  const problems = [];
  const results = [];
  for (const file of files) {
    try {
      results.push(await resultOf(network, file));
    } catch {
      problems.push(file.name);
    }
  }
  element("results").replaceChildren(...results);
  showProblem(problems.length ? `No picture that this browser can decode: ${problems.join(", ")}` : "");
}

async function resultOf(network, file) {
  const { size } = network.description;
  const picture = await decoded(file);
  const pixels = pixelsOf(picture, picture.width, picture.height, size);
  const { shares, milliseconds } = await network.classify(pixels);
  const shown = `${dimensions(picture.width, picture.height)}, cut and resized to ${dimensions(size, size)}`;
  const figure = made("figure", {}, canvasOf(pixels, size), made("figcaption", {}, "what the network sees"));
  const text = made("div", {}, made("h3", {}, file.name), ...bars(shares[0], network.description.classes));
  text.append(made("p", { className: "muted" }, `${shown}; ${milliseconds.toFixed(1)}\u00a0ms`));
  return made("article", { className: "result" }, figure, text);
}

/** Two numbers that no line break parts. */
function dimensions(width, height) {
  return `${width}\u00a0×\u00a0${height}`;
}

/** The likeliest classes, each with a bar. */
function bars(shares, classes) {
  const order = [...shares.keys()].sort((one, other) => shares[other] - shares[one]);
  return order.slice(0, SHOWN_CLASSES).map((label, rank) => {
    const percent = `${(100 * shares[label]).toFixed(1)}\u00a0%`;
    const fill = made("div", { className: "fill" });
    fill.style.width = `${100 * shares[label]}%`;
    return made(
      "div",
      { className: rank ? "bar" : "bar first" },
      made("span", { className: "name", title: classes[label] }, classes[label]),
      made("div", { className: "track" }, fill),
      made("span", { className: "share" }, percent),
    );
  });
}

async function watchCamera(network) {
  // A second stream beside the first would be left running, with the camera's light on.
  element("camera").disabled = true;
  try {
    // Browsers show a camera to pages on https and on localhost only.
    if (!navigator.mediaDevices) throw new Error("the page has to be served through https, or on localhost");
    const video = element("video");
    video.srcObject = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
    await video.play();
    element("live").hidden = false;
    showProblem("");
    await classifyFrames(network, video);
  } catch (error) {
    stopCamera();
    showProblem(`The camera cannot be used: ${error.message}`);
  }
}

async function classifyFrames(network, video) {
  const { size, classes } = network.description;
  while (video.srcObject?.active) {
    const pixels = pixelsOf(video, video.videoWidth, video.videoHeight, size);
    const { shares, milliseconds } = await network.classify(pixels);
    element("live-bars").replaceChildren(...bars(shares[0], classes));
    element("live-time").textContent = `${milliseconds.toFixed(1)}\u00a0ms`;
    await new Promise(requestAnimationFrame);
  }
  // The camera may have been unplugged.
  if (video.srcObject) stopCamera();
}

function stopCamera() {
  const video = element("video");
  for (const track of video.srcObject?.getTracks() ?? []) track.stop();
  video.srcObject = null;
  element("live").hidden = true;
  element("camera").disabled = false;
  element("camera").focus();
}

function showProblem(text) {
  element("problem").textContent = text;
  element("problem").hidden = !text;
}

function made(tag, properties, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}
