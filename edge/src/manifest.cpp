#include "manifest.hpp"

#include <cmath>
#include <limits>

#include "failure.hpp"
#include "json_view.hpp"

namespace skf {
namespace {

constexpr const char* kSchema = "skipfold.bundle/1";
// Far above every network of this project, and low enough that no product of them overflows.
static_assert(sizeof(std::size_t) >= 8);
constexpr std::uint32_t kLargestSize = 4096, kMostClasses = 1u << 16, kLargestBatch = 1u << 16;

std::uint32_t whole(const JsonView& value, std::uint32_t least, std::uint32_t most) {
  return static_cast<std::uint32_t>(value.whole(least, most));
}

std::vector<std::string> texts(const JsonView& list) {
  std::vector<std::string> all;
  for (const JsonView& element : list.elements()) all.push_back(element.text());
  return all;
}

std::string sha256_in(const JsonView& value) {
  const std::string digits = value.text();
  if (digits.size() != 64 || digits.find_first_not_of("0123456789abcdef") != std::string::npos)
    value.refuse("64 lowercase hexadecimal digits");
  return digits;
}

Files files_in(const JsonView& files) {
  Files all;
  for (const auto& [path, file] : files.members()) {
    if (!stays_inside(path))
      fail(SKF_MALFORMED, "bundle.json lists the file \"", path, "\", which may lie outside the bundle");
    constexpr auto most = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
    all[path] = {file["bytes"].whole(0, most), sha256_in(file["sha256"])};
  }
  return all;
}

// A path that `files` lists, because only listed files are hashed.
std::string listed(const JsonView& value, const Files& files) {
  if (!files.count(value.text())) value.refuse("a file that `files` lists");
  return value.text();
}

void read_channels(const JsonView& list, float (&channels)[3]) {
  const std::vector<JsonView> values = list.elements();
  if (values.size() != 3) list.refuse("3 numbers");
  for (std::size_t c = 0; c < 3; ++c) {
    channels[c] = static_cast<float>(values[c].number());
    if (!std::isfinite(channels[c])) values[c].refuse("a float32 number");
  }
}

Normalisation normalisation_in(const JsonView& normalise) {
  normalise["formula"].require("x*scale-shift");
  Normalisation by{};
  read_channels(normalise["scale"], by.scale);
  read_channels(normalise["shift"], by.shift);
  return by;
}

// Checks the shape of a tensor behind its first axis, which is the batch.
void require_shape(const JsonView& shape, const std::vector<std::uint64_t>& wanted) {
  const std::vector<JsonView> axes = shape.elements();
  if (axes.size() != wanted.size() + 1) shape.refuse(words("a list of ", wanted.size() + 1));
  for (std::size_t i = 0; i < wanted.size(); ++i) axes[i + 1].whole(wanted[i], wanted[i]);
}

void read_batch(const JsonView& batch, Artifact& artifact) {
  artifact.batch_min = whole(batch["min"], 1, kLargestBatch);
  artifact.batch_max = kLargestBatch;
  if (!batch["max"].is_null()) artifact.batch_max = whole(batch["max"], artifact.batch_min, kLargestBatch);
}

void read_input(const JsonView& input, const Manifest& manifest, Artifact& artifact) {
  artifact.input = input["name"].text();
  artifact.takes_pixels = input["dtype"].text() == "uint8";
  if (!artifact.takes_pixels) input["dtype"].require("float32");
  input["layout"].require(artifact.takes_pixels ? "NHWC" : "NCHW");
  const std::uint64_t size = manifest.size;
  require_shape(input["shape"], artifact.takes_pixels ? std::vector{size, size, std::uint64_t{3}}
                                                      : std::vector{std::uint64_t{3}, size, size});
  read_batch(input["batch"], artifact);
}

void read_output(const JsonView& output, const Manifest& manifest, Artifact& artifact) {
  artifact.output = output["name"].text();
  output["dtype"].require("float32");
  require_shape(output["shape"], {manifest.classes.size()});
  artifact.values = output["values"].text();
  if (artifact.values != "probabilities") output["values"].require("logits");
}

void read_runtime(const JsonView& runtime, Artifact& artifact) {
  artifact.runtime = runtime["name"].text();
  artifact.verified_version = runtime["verified_version"].text();
  artifact.accepts = runtime["accepts"].text();
  for (const auto& [key, value] : runtime["settings"].members())
    artifact.settings.emplace_back(key, value.text());
}

void read_hardware(const JsonView& hardware, Artifact& artifact) {
  artifact.archs = texts(hardware["arch"]);
  artifact.needs_vnni = hardware["vnni"].text() == "required";
  if (!artifact.needs_vnni) hardware["vnni"].require("not needed");
  for (const JsonView& capability : hardware["compute_capability"].elements())
    artifact.capabilities.push_back(whole(capability, 10, 999));
}

Artifact artifact_in(const JsonView& value, const Manifest& manifest) {
  Artifact artifact{};
  artifact.id = value["id"].text();
  artifact.file = listed(value["file"], manifest.files);
  artifact.precision = value["precision"].text();
  read_input(value["input"], manifest, artifact);
  read_output(value["output"], manifest, artifact);
  read_runtime(value["runtime"], artifact);
  read_hardware(value["hardware"], artifact);
  artifact.golden_logits = listed(value["golden"]["logits"], manifest.files);
  artifact.golden_snr_db = value["golden"]["snr_db"].number();
  const JsonView verdict = value["verdict"];
  artifact.verified = !verdict.is_null() && verdict["passed"].boolean();
  return artifact;
}

void require_new_id(const Artifact& artifact, const std::vector<Artifact>& others) {
  for (const Artifact& other : others)
    if (other.id == artifact.id) fail(SKF_MALFORMED, "bundle.json has two artifacts of the id ", artifact.id);
}

Golden golden_in(const JsonView& value, const Manifest& manifest) {
  Golden golden{};
  golden.count = whole(value["count"], 1, kLargestBatch);
  golden.fitted = listed(value["fitted"], manifest.files);
  golden.input = listed(value["input"], manifest.files);
  for (const JsonView& label : value["labels"].elements())
    golden.labels.push_back(whole(label, 0, static_cast<std::uint32_t>(manifest.classes.size() - 1)));
  if (golden.labels.size() != golden.count)
    value["labels"].refuse(words(golden.count, " labels, one a picture"));
  return golden;
}

void require_bytes(const Manifest& manifest, const std::string& file, std::size_t bytes, const char* what) {
  const std::uint64_t found = manifest.files.at(file).bytes;
  if (found != bytes)
    fail(SKF_MALFORMED, "bundle.json lists ", file, " with ", found, " bytes, and ", what, " take ", bytes);
}

void require_golden_bytes(const Manifest& manifest) {
  const Golden& golden = manifest.golden;
  require_bytes(manifest, golden.fitted, golden.count * manifest.picture(), "the golden pictures");
  require_bytes(manifest, golden.input, golden.count * manifest.picture() * sizeof(float),
                "the golden images");
  for (const Artifact& artifact : manifest.artifacts)
    require_bytes(manifest, artifact.golden_logits, golden.count * manifest.classes.size() * sizeof(float),
                  "the golden logits");
}

void read_picture(const JsonView& picture, Manifest& manifest) {
  picture["color"].require("rgb");
  manifest.size = whole(picture["height"], 1, kLargestSize);
  picture["width"].whole(manifest.size, manifest.size);
}

void read_classes(const JsonView& classes, Manifest& manifest) {
  manifest.classes = texts(classes);
  if (manifest.classes.empty() || manifest.classes.size() > kMostClasses)
    classes.refuse(words("1 to ", kMostClasses, " names"));
}

void read_artifacts(const JsonView& artifacts, Manifest& manifest) {
  for (const JsonView& value : artifacts.elements()) {
    Artifact artifact = artifact_in(value, manifest);
    require_new_id(artifact, manifest.artifacts);
    manifest.artifacts.push_back(std::move(artifact));
  }
  if (manifest.artifacts.empty()) artifacts.refuse("at least one artifact");
}

}  // namespace

Manifest manifest_from(const std::string& text) {
  const Json json = json_from(text);
  const JsonView bundle(json, "");
  bundle["schema"].require(kSchema);
  Manifest manifest{};
  read_classes(bundle["classes"], manifest);
  read_picture(bundle["picture"], manifest);
  manifest.normalisation = normalisation_in(bundle["normalise"]);
  manifest.files = files_in(bundle["files"]);
  read_artifacts(bundle["artifacts"], manifest);
  manifest.golden = golden_in(bundle["golden"], manifest);
  require_golden_bytes(manifest);
  return manifest;
}

}  // namespace skf
