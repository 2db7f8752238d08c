// What each real runtime answers to a bundle that asks for the wrong thing.
#include <doctest/doctest.h>

#include <algorithm>
#include <fstream>
#include <string>
#include <thread>

#include "received_bundle.hpp"

using nlohmann::json;

namespace {

// Whether this build has a runtime; says so if not.
bool is_built(const std::string& runtime) {
  const auto all = received::runtimes();
  const bool built = std::count(all.begin(), all.end(), runtime) != 0;
  if (!built) MESSAGE("skipped: this build has no " << runtime);
  return built;
}

skipfold::Status opened_with(const std::string& artifact, const std::string& pointer, const json& value) {
  received::Copy copy;
  copy.edit(artifact, [&](json& entry) { entry[json::json_pointer(pointer)] = value; });
  return copy.opened(artifact);
}

void says(const skipfold::Status& status, skf_code code, const std::string& part) {
  INFO(status.message());
  CHECK(status.code() == code);
  CHECK(status.message().find(part) != std::string::npos);
}

}  // namespace

TEST_CASE("Another version of the runtime is refused, and the message names both") {
  for (const std::string& runtime : received::runtimes()) {
    const std::string artifact = received::artifact_of(runtime);
    const std::string here = received::open(artifact).info().runtime_version;
    const auto status = opened_with(artifact, "/runtime/verified_version", "99.1.2");
    says(status, SKF_VERSION, "99.1.2");
    says(status, SKF_VERSION, here);
  }
}

TEST_CASE("A tensor that the model does not have is refused by name") {
  for (const std::string& runtime : received::runtimes())
    for (const char* tensor : {"input", "output"})
      says(opened_with(received::artifact_of(runtime), std::string("/") + tensor + "/name", "nothing"),
           SKF_MALFORMED, "no tensor nothing");
}

TEST_CASE("A model of other classes than the bundle says is refused with both shapes") {
  for (const std::string& runtime : received::runtimes()) {
    const std::string artifact = received::artifact_of(runtime);
    received::Copy copy;
    // The bundle's own output becomes its input's name: a tensor of another shape.
    copy.edit(artifact, [](json& entry) { entry["input"]["name"] = entry["output"]["name"]; });
    CHECK(copy.opened(artifact).code() == SKF_MALFORMED);
  }
}

TEST_CASE("A model that is truncated or no model is refused in the runtime's words") {
  for (const std::string& runtime : received::runtimes()) {
    const std::string artifact = received::artifact_of(runtime);
    received::Copy copy;
    std::string file;
    copy.edit(artifact, [&](json& entry) { file = entry["file"]; });
    const std::string model = copy.read(file);
    for (const std::string& content :
         {model.substr(0, model.size() / 2), std::string("no model"), std::string()}) {
      copy.write_listed(file, content);
      const auto status = copy.opened(artifact);
      CHECK(status.code() == SKF_RUNTIME);
      CHECK(status.message().size() > artifact.size() + 10);
    }
  }
}

TEST_CASE("ONNX Runtime's settings are the bundle's, and unknown ones are refused") {
  if (!is_built("ort")) return;
  const std::string artifact = received::artifact_of("ort");
  const json good = {{"graph_optimization_level", "all"},
                     {"execution_mode", "sequential"},
                     {"intra_op_num_threads", "1"},
                     {"inter_op_num_threads", "1"},
                     {"session.force_spinning_stop", "1"}};
  CHECK(opened_with(artifact, "/runtime/settings", good).ok());
  says(opened_with(artifact, "/runtime/settings", {{"graph_optimization_level", "most"}}), SKF_MALFORMED,
       "most");
  says(opened_with(artifact, "/runtime/settings", {{"execution_mode", "fast"}}), SKF_MALFORMED, "fast");
  says(opened_with(artifact, "/runtime/settings", {{"intra_op_num_threads", "-1"}}), SKF_MALFORMED, "-1");
  says(opened_with(artifact, "/runtime/settings", {{"colour", "blue"}}), SKF_MALFORMED, "colour");
}

TEST_CASE("OpenVINO's settings are read back, and unknown ones are refused") {
  if (!is_built("openvino")) return;
  const std::string artifact = received::artifact_of("openvino");
  CHECK(opened_with(artifact, "/runtime/settings/INFERENCE_NUM_THREADS", "1").ok());
  // OpenVINO takes this number without a word, and runs as many threads as there are cores.
  const auto status = opened_with(artifact, "/runtime/settings/INFERENCE_NUM_THREADS", "100000");
  says(status, SKF_RUNTIME, "asked for INFERENCE_NUM_THREADS = 100000, and the compiled model has");
  says(opened_with(artifact, "/runtime/settings/COLOUR", "blue"), SKF_RUNTIME, "COLOUR");
  // OpenVINO has no such precision for a CPU.
  CHECK(opened_with(artifact, "/runtime/settings/INFERENCE_PRECISION_HINT", "f64").code() == SKF_RUNTIME);
}

TEST_CASE("The caller limits the number of threads, also to more than there are cores") {
  for (const std::string& runtime : received::runtimes()) {
    const auto pixels = received::values_in<std::uint8_t>(received::bundle() + "/golden/fitted.u8");
    for (const std::uint32_t threads : {1u, std::thread::hardware_concurrency() + 1}) {
      auto net = received::open(received::artifact_of(runtime), 1, 0, threads);
      CHECK(net.classify(pixels));
    }
  }
}

#if defined(__x86_64__)
TEST_CASE(
    "Without the precision that the bundle asks for, a CPU with bfloat16 does not stand the self-test") {
  if (!is_built("openvino")) return;
  std::string word, flags;
  for (std::ifstream file("/proc/cpuinfo"); file >> word;)
    if (word == "avx512_bf16" || word == "amx_bf16") flags += word + " ";
  if (flags.find("amx_bf16") == std::string::npos) {
    MESSAGE("skipped: this CPU has no AMX with bfloat16");
    return;
  }
  for (const auto& artifact : received::manifest()["artifacts"]) {
    if (artifact["runtime"]["name"] != "openvino" || artifact["precision"] != "fp32") continue;
    const auto status = opened_with(artifact["id"], "/runtime/settings", {{"PERFORMANCE_HINT", "LATENCY"}});
    says(status, SKF_TOLERANCE, "and the bundle asks for 80 dB");
  }
}
#endif
