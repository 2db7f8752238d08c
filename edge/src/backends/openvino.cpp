// OpenVINO on the CPU. The network is compiled for fixed batches, because fixed shapes give faster kernels:
// once for the largest batch and once for single pictures, which make up a last batch that is smaller.
#include <algorithm>
#include <map>
#include <openvino/openvino.hpp>
#include <string>
#include <vector>

#include "module.hpp"
#include "version.hpp"

namespace skf {
namespace {

ov::Core& core() {
  // Never destroyed: OpenVINO's threads may outlive the destructors of this process.
  static auto* one = new ov::Core;
  return *one;
}

using Settings = std::map<std::string, std::string>;
constexpr const char* kThreads = "INFERENCE_NUM_THREADS";

Settings settings_of(const Request& request) {
  Settings settings;
  for (std::size_t i = 0; i < request.setting_count; ++i)
    settings[request.settings[i].key] = request.settings[i].value;
  if (request.threads) settings[kThreads] = std::to_string(request.threads);
  return settings;
}

// OpenVINO may leave a setting out: without INFERENCE_PRECISION_HINT it computes a float32 graph in bfloat16
// on some CPUs. The caller's number of threads is a limit: OpenVINO runs no more threads than there are
// cores.
void require_applied(const ov::CompiledModel& compiled, const Settings& settings, std::uint32_t threads) {
  for (const auto& [key, wanted] : settings) {
    const auto found = compiled.get_property(key).as<std::string>();
    if (threads && key == kThreads && std::stoul(found) <= threads) continue;
    if (found != wanted)
      fail(SKF_RUNTIME, "OpenVINO was asked for ", key, " = ", wanted, ", and the compiled model has ",
           found);
  }
}

ov::Shape input_shape(const Request& request, std::size_t batch) {
  const std::size_t size = request.size;
  return request.takes_pixels ? ov::Shape{batch, size, size, 3} : ov::Shape{batch, 3, size, size};
}

ov::element::Type input_type(const Request& request) {
  return request.takes_pixels ? ov::element::u8 : ov::element::f32;
}

// A tensor of the compiled model against what bundle.json says of it.
void require_tensor(const ov::Output<const ov::Node>& tensor, ov::element::Type type,
                    const ov::Shape& shape) {
  if (tensor.get_element_type() == type && tensor.get_partial_shape() == ov::PartialShape(shape)) return;
  fail(SKF_MALFORMED, "the model's tensor ", tensor.get_any_name(), " is ", tensor.get_element_type(), " ",
       tensor.get_partial_shape(), ", and bundle.json says ", type, " ", shape);
}

std::shared_ptr<ov::Model> read_model(const Request& request) {
  const std::string content(static_cast<const char*>(request.model), request.model_bytes);
  return core().read_model(content, ov::Tensor());
}

const ov::Output<const ov::Node> named(const std::vector<ov::Output<const ov::Node>>& tensors,
                                       const char* name) {
  for (const auto& tensor : tensors)
    if (tensor.get_names().count(name)) return tensor;
  fail(SKF_MALFORMED, "the model has no tensor ", name, ", which bundle.json names");
}

ov::CompiledModel compile(const std::shared_ptr<ov::Model>& model, const Request& request,
                          std::size_t batch) {
  const std::shared_ptr<ov::Model> fixed = model->clone();
  named(std::as_const(*fixed).inputs(), request.input);
  fixed->reshape({{request.input, ov::PartialShape(input_shape(request, batch))}});
  const Settings settings = settings_of(request);
  ov::CompiledModel compiled =
      core().compile_model(fixed, "CPU", ov::AnyMap(settings.begin(), settings.end()));
  require_applied(compiled, settings, request.threads);
  require_tensor(named(compiled.inputs(), request.input), input_type(request), input_shape(request, batch));
  require_tensor(named(compiled.outputs(), request.output), ov::element::f32, {batch, request.classes});
  return compiled;
}

// What the clones of a network share.
struct Compiled {
  explicit Compiled(const Request& request)
      : batch(request.batch), input(request.input), output(request.output) {
    const std::shared_ptr<ov::Model> model = read_model(request);
    whole = compile(model, request, batch);
    // A model with a fixed batch is never asked for less.
    if (batch > 1 && request.batch_min == 1) single = compile(model, request, 1);
  }

  std::size_t batch;
  std::string input, output;
  ov::CompiledModel whole, single;
};

class OpenVinoNet {
 public:
  static const char* version() {
    static const std::string numbers = numbers_of(ov::get_openvino_version().buildNumber);
    return numbers.c_str();
  }

  explicit OpenVinoNet(const Request& request) : OpenVinoNet(std::make_shared<const Compiled>(request)) {}

  explicit OpenVinoNet(std::shared_ptr<const Compiled> compiled) : compiled_(std::move(compiled)) {
    whole_ = request_for(compiled_->whole, input_, output_);
    if (compiled_->single) single_ = request_for(compiled_->single, single_input_, single_output_);
  }

  std::unique_ptr<OpenVinoNet> clone() const { return std::make_unique<OpenVinoNet>(compiled_); }

  void* input() { return input_.data(); }
  float* output() { return output_.data<float>(); }

  void run(std::size_t pictures) {
    if (pictures == compiled_->batch || !single_) return whole_.infer();
    for (std::size_t i = 0; i < pictures; ++i) run_alone(i);
  }

 private:
  // A request with tensors of its own, which stay where they are.
  ov::InferRequest request_for(const ov::CompiledModel& compiled, ov::Tensor& input, ov::Tensor& output) {
    const auto in = named(compiled.inputs(), compiled_->input.c_str());
    const auto out = named(compiled.outputs(), compiled_->output.c_str());
    input = ov::Tensor(in.get_element_type(), in.get_shape());
    output = ov::Tensor(out.get_element_type(), out.get_shape());
    ov::InferRequest request = const_cast<ov::CompiledModel&>(compiled).create_infer_request();
    request.set_tensor(in, input);
    request.set_tensor(out, output);
    return request;
  }

  void run_alone(std::size_t picture) {
    const std::size_t in = single_input_.get_byte_size(), out = single_output_.get_size();
    std::copy_n(static_cast<const char*>(input_.data()) + picture * in, in,
                static_cast<char*>(single_input_.data()));
    single_.infer();
    std::copy_n(single_output_.data<float>(), out, output_.data<float>() + picture * out);
  }

  std::shared_ptr<const Compiled> compiled_;
  ov::Tensor input_, output_, single_input_, single_output_;
  ov::InferRequest whole_, single_;
};

}  // namespace
}  // namespace skf

const skf::Backend* skf_backend(skf::Text why) {
  return skf::Module<skf::OpenVinoNet>::table("openvino", why);
}
