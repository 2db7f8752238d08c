#include "raw.hpp"

#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <numeric>
#include <stdexcept>

namespace bench {
namespace {

nlohmann::json entry_of(const nlohmann::json& manifest, const std::string& id) {
  for (const nlohmann::json& entry : manifest.at("artifacts"))
    if (entry.at("id") == id) return entry;
  throw std::runtime_error("the bundle has no artifact " + id);
}

const char* setting_of_threads(const std::string& runtime) {
  return runtime == "openvino" ? "INFERENCE_NUM_THREADS" : "intra_op_num_threads";
}

}  // namespace

std::size_t Artifact::values() const {
  return std::accumulate(input_shape.begin(), input_shape.end(), std::size_t{1}, std::multiplies<>());
}

Artifact artifact_of(const std::string& bundle, const std::string& id, std::size_t batch,
                     std::size_t threads) {
  const nlohmann::json manifest = nlohmann::json::parse(std::ifstream(bundle + "/bundle.json"));
  const nlohmann::json entry = entry_of(manifest, id);
  const nlohmann::json& input = entry.at("input");
  if (input.at("dtype") != "float32")
    throw std::runtime_error(id + " takes pixels and not normalised images");
  Artifact artifact;
  artifact.path = bundle + "/" + entry.at("file").get<std::string>();
  artifact.runtime = entry.at("runtime").at("name");
  artifact.input = input.at("name");
  artifact.output = entry.at("output").at("name");
  artifact.settings = entry.at("runtime").at("settings").get<std::map<std::string, std::string>>();
  if (threads > 0) artifact.settings[setting_of_threads(artifact.runtime)] = std::to_string(threads);
  artifact.input_shape = {batch};
  for (std::size_t axis = 1; axis < input.at("shape").size(); ++axis)
    artifact.input_shape.push_back(input.at("shape").at(axis));
  artifact.classes = manifest.at("classes").size();
  return artifact;
}

std::unique_ptr<Raw> open_raw(const Artifact& artifact) {
#ifdef BENCH_OPENVINO
  if (artifact.runtime == "openvino") return open_openvino(artifact);
#endif
#ifdef BENCH_ORT
  if (artifact.runtime == "ort") return open_ort(artifact);
#endif
  return nullptr;
}

}  // namespace bench
