#include <algorithm>
#include <openvino/openvino.hpp>

#include "raw.hpp"

namespace bench {
namespace {

// Copies into and out of the request's own tensors: binding a tensor of the caller for each call takes
// OpenVINO longer than the copy of an image.
class OpenVino : public Raw {
 public:
  explicit OpenVino(const Artifact& artifact) {
    const auto model = core_.read_model(artifact.path);
    const ov::Shape shape(artifact.input_shape.begin(), artifact.input_shape.end());
    model->reshape({{artifact.input, ov::PartialShape(shape)}});
    const ov::AnyMap settings(artifact.settings.begin(), artifact.settings.end());
    request_ = core_.compile_model(model, "CPU", settings).create_infer_request();
    input_ = request_.get_input_tensor();
    output_ = request_.get_output_tensor();
  }

  void infer(const float* images, float* logits) override {
    std::copy_n(images, input_.get_size(), input_.data<float>());
    request_.infer();
    std::copy_n(output_.data<float>(), output_.get_size(), logits);
  }

 private:
  ov::Core core_;
  ov::InferRequest request_;
  ov::Tensor input_, output_;
};

}  // namespace

std::unique_ptr<Raw> open_openvino(const Artifact& artifact) { return std::make_unique<OpenVino>(artifact); }

}  // namespace bench
