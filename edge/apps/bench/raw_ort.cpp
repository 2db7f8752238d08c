#include <onnxruntime_c_api.h>

#include <cstdint>
#include <stdexcept>

#include "raw.hpp"

namespace bench {
namespace {

// The oldest API that has every function used here, as in src/backends/ort.cpp.
constexpr std::uint32_t kApi = 14;

const OrtApi& api() {
  static const OrtApi* const functions = OrtGetApiBase()->GetApi(kApi);
  if (!functions) throw std::runtime_error("ONNX Runtime is older than 1.14");
  return *functions;
}

void check(OrtStatus* status) {
  if (!status) return;
  const std::string message = api().GetErrorMessage(status);
  api().ReleaseStatus(status);
  throw std::runtime_error(message);
}

const std::map<std::string, GraphOptimizationLevel> kLevels = {{"disable", ORT_DISABLE_ALL},
                                                               {"basic", ORT_ENABLE_BASIC},
                                                               {"extended", ORT_ENABLE_EXTENDED},
                                                               {"all", ORT_ENABLE_ALL}};

void apply(OrtSessionOptions* options, const std::string& key, const std::string& value) {
  if (key == "graph_optimization_level")
    check(api().SetSessionGraphOptimizationLevel(options, kLevels.at(value)));
  else if (key == "execution_mode")
    check(api().SetSessionExecutionMode(options, value == "parallel" ? ORT_PARALLEL : ORT_SEQUENTIAL));
  else if (key == "intra_op_num_threads")
    check(api().SetIntraOpNumThreads(options, std::stoi(value)));
  else if (key == "inter_op_num_threads")
    check(api().SetInterOpNumThreads(options, std::stoi(value)));
  else
    check(api().AddSessionConfigEntry(options, key.c_str(), value.c_str()));
}

class Ort : public Raw {
 public:
  explicit Ort(const Artifact& artifact)
      : input_(artifact.input),
        output_(artifact.output),
        input_shape_(artifact.input_shape.begin(), artifact.input_shape.end()),
        output_shape_{input_shape_.front(), static_cast<std::int64_t>(artifact.classes)},
        input_bytes_(artifact.values() * sizeof(float)),
        output_bytes_(artifact.batch() * artifact.classes * sizeof(float)) {
    check(api().CreateEnv(ORT_LOGGING_LEVEL_ERROR, "bench", &environment_));
    check(api().CreateCpuMemoryInfo(OrtDeviceAllocator, OrtMemTypeDefault, &memory_));
    check(api().CreateSessionOptions(&options_));
    for (const auto& [key, value] : artifact.settings) apply(options_, key, value);
    check(api().CreateSession(environment_, artifact.path.c_str(), options_, &session_));
  }

  ~Ort() override {
    api().ReleaseSession(session_);
    api().ReleaseSessionOptions(options_);
    api().ReleaseMemoryInfo(memory_);
    api().ReleaseEnv(environment_);
  }

  void infer(const float* images, float* logits) override {
    OrtValue* in = tensor(const_cast<float*>(images), input_bytes_, input_shape_);
    OrtValue* out = tensor(logits, output_bytes_, output_shape_);
    const char* const inputs[] = {input_.c_str()};
    const char* const outputs[] = {output_.c_str()};
    check(api().Run(session_, nullptr, inputs, &in, 1, outputs, 1, &out));
    api().ReleaseValue(in);
    api().ReleaseValue(out);
  }

 private:
  OrtValue* tensor(float* values, std::size_t bytes, const std::vector<std::int64_t>& shape) const {
    OrtValue* made = nullptr;
    check(api().CreateTensorWithDataAsOrtValue(memory_, values, bytes, shape.data(), shape.size(),
                                               ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, &made));
    return made;
  }

  std::string input_, output_;
  std::vector<std::int64_t> input_shape_, output_shape_;
  std::size_t input_bytes_, output_bytes_;
  OrtEnv* environment_ = nullptr;
  OrtMemoryInfo* memory_ = nullptr;
  OrtSessionOptions* options_ = nullptr;
  OrtSession* session_ = nullptr;
};

}  // namespace

std::unique_ptr<Raw> open_ort(const Artifact& artifact) { return std::make_unique<Ort>(artifact); }

}  // namespace bench
