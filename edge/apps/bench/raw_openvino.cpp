#include <algorithm>
#include <openvino/openvino.hpp>

#include "raw.hpp"

namespace bench {
namespace {

class OpenVino : public Raw {
 public:
  explicit OpenVino(const Artifact& artifact)
      : shape_(artifact.input_shape.begin(), artifact.input_shape.end()),
        values_(artifact.batch() * artifact.classes) {
    const auto model = core_.read_model(artifact.path);
    model->reshape({{artifact.input, ov::PartialShape(shape_)}});
    const ov::AnyMap settings(artifact.settings.begin(), artifact.settings.end());
    request_ = core_.compile_model(model, "CPU", settings).create_infer_request();
  }

  void infer(const float* images, float* logits) override {
    request_.set_input_tensor(ov::Tensor(ov::element::f32, shape_, const_cast<float*>(images)));
    request_.infer();
    std::copy_n(request_.get_output_tensor().data<float>(), values_, logits);
  }

 private:
  ov::Core core_;
  ov::Shape shape_;
  std::size_t values_;
  ov::InferRequest request_;
};

}  // namespace

std::unique_ptr<Raw> open_openvino(const Artifact& artifact) { return std::make_unique<OpenVino>(artifact); }

}  // namespace bench
