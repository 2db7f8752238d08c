// ONNX Runtime on the CPU, through its C API, because the C++ header's classes differ from version to
// version.
#include <onnxruntime_c_api.h>

#include <cstring>
#include <string>
#include <vector>

#include "module.hpp"

namespace skf {
namespace {

// The oldest API with everything that is called here: GetSessionConfigEntry came with 1.14. A library newer
// than the headers gives this API, too; one that is older gives NULL.
constexpr std::uint32_t kApi = 14;
static_assert(ORT_API_VERSION >= kApi, "the headers of ONNX Runtime 1.14 or later are needed");

const OrtApi& api() {
  static const OrtApi* const functions = OrtGetApiBase()->GetApi(kApi);
  if (!functions)
    fail(SKF_VERSION, "this needs ONNX Runtime 1.", kApi, " or later, and here is ",
         OrtGetApiBase()->GetVersionString());
  return *functions;
}

void check(OrtStatus* status) {
  if (!status) return;
  const std::string text = api().GetErrorMessage(status);
  api().ReleaseStatus(status);
  throw Failure(SKF_RUNTIME, "ONNX Runtime: " + text);
}

// An object of ONNX Runtime with the function that gives it back.
template <class T>
using Owned = std::unique_ptr<T, void (*)(T*)>;

template <class T>
Owned<T> none(void (*release)(T*)) {
  return {nullptr, release};
}

// Makes an object: `make` is a function of the API whose last argument receives it.
template <class T, class Make, class... Arguments>
Owned<T> made(void (*release)(T*), Make make, Arguments... arguments) {
  T* object = nullptr;
  check(make(arguments..., &object));
  return {object, release};
}

const OrtEnv& environment() {
  // Never destroyed, because sessions of the whole process need it.
  static const OrtEnv* const one =
      made<OrtEnv>(api().ReleaseEnv, api().CreateEnv, ORT_LOGGING_LEVEL_ERROR, "skipfold").release();
  return *one;
}

[[noreturn]] void refuse(const Setting& setting, const char* wanted) {
  fail(SKF_MALFORMED, "bundle.json sets ", setting.key, " of ort to ", setting.value,
       ", and this library wants ", wanted);
}

GraphOptimizationLevel optimization(const Setting& setting) {
  const std::string level = setting.value;
  if (level == "disable") return ORT_DISABLE_ALL;
  if (level == "basic") return ORT_ENABLE_BASIC;
  if (level == "extended") return ORT_ENABLE_EXTENDED;
  if (level == "all") return ORT_ENABLE_ALL;
  refuse(setting, "disable, basic, extended or all");
}

ExecutionMode execution(const Setting& setting) {
  const std::string mode = setting.value;
  if (mode == "sequential") return ORT_SEQUENTIAL;
  if (mode == "parallel") return ORT_PARALLEL;
  refuse(setting, "sequential or parallel");
}

int threads(const Setting& setting) {
  const std::string digits = setting.value;
  if (digits.empty() || digits.size() > 4 || digits.find_first_not_of("0123456789") != std::string::npos)
    refuse(setting, "a number of threads");
  return std::stoi(digits);
}

// A free-form entry, which ONNX Runtime gives back. The other settings are functions that answer at once.
void set_entry(OrtSessionOptions* options, const Setting& setting) {
  check(api().AddSessionConfigEntry(options, setting.key, setting.value));
  std::size_t size = 0;
  check(api().GetSessionConfigEntry(options, setting.key, nullptr, &size));
  std::vector<char> found(size);
  check(api().GetSessionConfigEntry(options, setting.key, found.data(), &size));
  if (std::strcmp(found.data(), setting.value) != 0)
    fail(SKF_RUNTIME, "ONNX Runtime was asked for ", setting.key, " = ", setting.value, ", and has ",
         found.data());
}

void apply(OrtSessionOptions* options, const Setting& setting) {
  const std::string key = setting.key;
  if (key == "graph_optimization_level")
    check(api().SetSessionGraphOptimizationLevel(options, optimization(setting)));
  else if (key == "execution_mode")
    check(api().SetSessionExecutionMode(options, execution(setting)));
  else if (key == "intra_op_num_threads")
    check(api().SetIntraOpNumThreads(options, threads(setting)));
  else if (key == "inter_op_num_threads")
    check(api().SetInterOpNumThreads(options, threads(setting)));
  else if (key.find('.') != std::string::npos)
    set_entry(options, setting);
  else
    fail(SKF_MALFORMED, "bundle.json has the setting ", key, " of ort, which this library does not know");
}

Owned<OrtSessionOptions> options_of(const Request& request) {
  auto options = made<OrtSessionOptions>(api().ReleaseSessionOptions, api().CreateSessionOptions);
  for (std::size_t i = 0; i < request.setting_count; ++i) apply(options.get(), request.settings[i]);
  if (request.threads) check(api().SetIntraOpNumThreads(options.get(), static_cast<int>(request.threads)));
  return options;
}

struct Tensor {
  ONNXTensorElementDataType type;
  std::vector<std::int64_t> shape;  // -1 where the model leaves an axis open
};

std::string text_of(const Tensor& tensor) {
  std::string text = words("element type ", tensor.type, " [");
  for (const std::int64_t axis : tensor.shape)
    text += (text.back() == '[' ? "" : ", ") + std::to_string(axis);
  return text + "]";
}

Tensor tensor_of(const OrtTypeInfo* type) {
  const OrtTensorTypeAndShapeInfo* info = nullptr;
  check(api().CastTypeInfoToTensorInfo(type, &info));
  if (!info) fail(SKF_MALFORMED, "the model has an input or output that is no tensor");
  Tensor tensor{};
  std::size_t axes = 0;
  check(api().GetTensorElementType(info, &tensor.type));
  check(api().GetDimensionsCount(info, &axes));
  tensor.shape.resize(axes);
  check(api().GetDimensions(info, tensor.shape.data(), axes));
  return tensor;
}

using CountOf = decltype(OrtApi::SessionGetInputCount);
using NameOf = decltype(OrtApi::SessionGetInputName);
using TypeOf = decltype(OrtApi::SessionGetInputTypeInfo);

// The input or output of a session that bundle.json names.
Tensor named(const OrtSession* session, const char* wanted, CountOf count_of, NameOf name_of,
             TypeOf type_of) {
  std::size_t count = 0;
  OrtAllocator* allocator = nullptr;
  check(count_of(session, &count));
  check(api().GetAllocatorWithDefaultOptions(&allocator));
  for (std::size_t i = 0; i < count; ++i) {
    char* name = nullptr;
    check(name_of(session, i, allocator, &name));
    const bool is_it = std::strcmp(name, wanted) == 0;
    check(api().AllocatorFree(allocator, name));
    if (is_it) return tensor_of(made<OrtTypeInfo>(api().ReleaseTypeInfo, type_of, session, i).get());
  }
  fail(SKF_MALFORMED, "the model has no tensor ", wanted, ", which bundle.json names");
}

// A tensor of the model against the one that will be bound; an open axis of the model takes any size.
void require_tensor(const char* name, const Tensor& found, const Tensor& wanted) {
  bool fits = found.type == wanted.type && found.shape.size() == wanted.shape.size();
  for (std::size_t i = 0; fits && i < found.shape.size(); ++i)
    fits = found.shape[i] == wanted.shape[i] || found.shape[i] < 0;
  if (!fits)
    fail(SKF_MALFORMED, "the model's tensor ", name, " is ", text_of(found), ", and bundle.json says ",
         text_of(wanted));
}

// What the clones of a network share; one session may run in many threads at once.
class Shared {
 public:
  explicit Shared(const Request& request)
      : input_name(request.input),
        output_name(request.output),
        batch(request.batch),
        session_(none(api().ReleaseSession)) {
    const auto size = static_cast<std::int64_t>(request.size);
    input = {request.takes_pixels ? ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8 : ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT,
             request.takes_pixels ? std::vector<std::int64_t>{batch, size, size, 3}
                                  : std::vector<std::int64_t>{batch, 3, size, size}};
    output = {ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, {batch, request.classes}};
    const auto options = options_of(request);
    session_ =
        made<OrtSession>(api().ReleaseSession, api().CreateSessionFromArray, &environment(), request.model,
                         request.model_bytes, static_cast<const OrtSessionOptions*>(options.get()));
    require_tensor(request.input,
                   named(session_.get(), request.input, api().SessionGetInputCount, api().SessionGetInputName,
                         api().SessionGetInputTypeInfo),
                   input);
    require_tensor(request.output,
                   named(session_.get(), request.output, api().SessionGetOutputCount,
                         api().SessionGetOutputName, api().SessionGetOutputTypeInfo),
                   output);
  }

  void run(const OrtValue* in, OrtValue* out) const {
    const char* const inputs[] = {input_name.c_str()};
    const char* const outputs[] = {output_name.c_str()};
    check(api().Run(session_.get(), nullptr, inputs, &in, 1, outputs, 1, &out));
  }

  std::string input_name, output_name;
  std::int64_t batch;
  Tensor input, output;  // with the largest batch

 private:
  Owned<OrtSession> session_;
};

class OrtNet {
 public:
  static const char* version() { return api(), OrtGetApiBase()->GetVersionString(); }

  explicit OrtNet(const Request& request) : OrtNet(std::make_shared<const Shared>(request)) {}

  explicit OrtNet(std::shared_ptr<const Shared> shared)
      : shared_(std::move(shared)),
        input_(bytes_of(shared_->input)),
        output_(bytes_of(shared_->output) / sizeof(float)),
        in_(value(shared_->input, shared_->batch, input_.data(), input_.size())),
        out_(value(shared_->output, shared_->batch, output_.data(), output_.size() * sizeof(float))) {}

  std::unique_ptr<OrtNet> clone() const { return std::make_unique<OrtNet>(shared_); }

  void* input() { return input_.data(); }
  float* output() { return output_.data(); }

  void run(std::size_t pictures) {
    const auto n = static_cast<std::int64_t>(pictures);
    if (n == shared_->batch) return shared_->run(in_.get(), out_.get());
    const auto in = value(shared_->input, n, input_.data(), input_.size());
    const auto out = value(shared_->output, n, output_.data(), output_.size() * sizeof(float));
    shared_->run(in.get(), out.get());
  }

 private:
  static std::size_t bytes_of(const Tensor& tensor) {
    std::size_t bytes = tensor.type == ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT ? sizeof(float) : 1;
    for (const std::int64_t axis : tensor.shape) bytes *= static_cast<std::size_t>(axis);
    return bytes;
  }

  // The first `n` pictures of a buffer, as a tensor that borrows the memory.
  static Owned<OrtValue> value(const Tensor& tensor, std::int64_t n, void* data, std::size_t bytes) {
    static const OrtMemoryInfo* const memory =
        made<OrtMemoryInfo>(api().ReleaseMemoryInfo, api().CreateCpuMemoryInfo, OrtDeviceAllocator,
                            OrtMemTypeDefault)
            .release();
    std::vector<std::int64_t> shape = tensor.shape;
    const std::size_t used = bytes / static_cast<std::size_t>(shape[0]) * static_cast<std::size_t>(n);
    shape[0] = n;
    return made<OrtValue>(api().ReleaseValue, api().CreateTensorWithDataAsOrtValue, memory, data, used,
                          shape.data(), shape.size(), tensor.type);
  }

  std::shared_ptr<const Shared> shared_;
  std::vector<char> input_;
  std::vector<float> output_;
  Owned<OrtValue> in_, out_;
};

}  // namespace
}  // namespace skf

const skf::Backend* skf_backend(skf::Text why) { return skf::Module<skf::OrtNet>::table("ort", why); }
