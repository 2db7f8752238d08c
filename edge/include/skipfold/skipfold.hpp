// skipfold for C++17: a header-only layer over the C ABI, so that no C++ type crosses the library's border.
//
//     auto net = skipfold::Classifier::open("digits.bundle");
//     if (!net) { std::cerr << net.status().message() << '\n'; return 1; }
//     auto fitted = net->fit(rgb, width, height);
//     auto answer = fitted ? net->classify(*fitted) : fitted.status();
//     if (answer) std::cout << net->name((*answer)[0].label);
//
// Nothing here throws, except that std::vector and std::string throw std::bad_alloc when memory runs out. The
// header compiles with -fno-exceptions.
#pragma once

#include <cassert>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "skipfold/skipfold.h"

namespace skipfold {

// A code with its message: a copy of skf_message() of the thread that made the call, or this header's words.
class [[nodiscard]] Status {
 public:
  Status() = default;
  explicit Status(skf_code code) : code_(code), message_(code == SKF_OK ? "" : skf_message()) {}
  Status(skf_code code, std::string text) : code_(code), message_(std::move(text)) {}

  bool ok() const noexcept { return code_ == SKF_OK; }
  explicit operator bool() const noexcept { return ok(); }
  skf_code code() const noexcept { return code_; }
  const char* name() const noexcept { return skf_code_name(code_); }
  const std::string& message() const noexcept { return message_; }

 private:
  skf_code code_ = SKF_OK;
  std::string message_;
};

// A value, or the status that says why there is none.
template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : value_(std::move(value)) {}
  Result(Status failure) : status_(std::move(failure)) { assert(!status_.ok()); }

  explicit operator bool() const noexcept { return value_.has_value(); }
  const Status& status() const noexcept { return status_; }

  // The value may be taken only if there is one, as with std::optional.
  T& operator*() & { return *value_; }
  const T& operator*() const& { return *value_; }
  T&& operator*() && { return std::move(*value_); }
  T* operator->() { return &*value_; }
  const T* operator->() const { return &*value_; }

 private:
  Status status_;
  std::optional<T> value_;
};

// skf_options with its size set and every member at its default.
struct Options : skf_options {
  Options() : skf_options{} { size = sizeof(skf_options); }
};

// The class of one picture and the scores of all classes, which Classifier::info().values names.
struct Answer {
  std::uint32_t label = 0;
  std::vector<float> scores;
};

// Fitted pictures, one after the other: height x width x 3 bytes each.
using Pixels = std::vector<std::uint8_t>;

// An open network; movable. The threads' rules are those of skipfold.h: clone() for each further thread.
class Classifier {
 public:
  static Result<Classifier> open(const std::string& bundle, const Options& options = {}) {
    skf_classifier* raw = nullptr;
    const skf_code code = skf_open(bundle.c_str(), &options, &raw);
    return own(code, raw);
  }

  Result<Classifier> clone() const {
    skf_classifier* raw = nullptr;
    const skf_code code = skf_clone(self_.get(), &raw);
    return own(code, raw);
  }

  const skf_info& info() const noexcept { return info_; }

  // The name of a class; an empty text if there is no such label.
  std::string name(std::uint32_t label) const {
    const char* text = skf_class_name(self_.get(), label);
    return text ? text : "";
  }

  // Crops and resizes one picture whose rows lie `stride` bytes apart; 0 stands for rows without gaps.
  Result<Pixels> fit(const std::uint8_t* pixels, std::uint32_t width, std::uint32_t height,
                     std::size_t stride = 0) const {
    Pixels fitted(picture_bytes());
    const std::size_t step = stride ? stride : std::size_t{3} * width;
    const skf_code code = skf_fit(self_.get(), pixels, width, height, step, fitted.data());
    if (code != SKF_OK) return Status(code);
    return fitted;
  }

  // Classifies all pictures in `fitted`, whose size has to be a multiple of a picture's and not 0.
  Result<std::vector<Answer>> classify(const Pixels& fitted) {
    if (fitted.empty() || fitted.size() % picture_bytes() != 0)
      return Status(SKF_ARGUMENT, std::to_string(fitted.size()) +
                                      " bytes are no whole number of pictures of " +
                                      std::to_string(picture_bytes()) + " bytes");
    const std::size_t n = fitted.size() / picture_bytes();
    std::vector<std::uint32_t> labels(n);
    std::vector<float> scores(n * info_.classes);
    const skf_code code = skf_classify(self_.get(), fitted.data(), n, labels.data(), scores.data());
    if (code != SKF_OK) return Status(code);
    return answers(labels, scores);
  }

  // The same without any allocation; see skf_classify, skf_infer and skf_normalise.
  Status classify(const std::uint8_t* pixels, std::size_t n, std::uint32_t* labels, float* scores = nullptr) {
    return Status(skf_classify(self_.get(), pixels, n, labels, scores));
  }
  Status infer(const float* images, std::size_t n, float* logits) {
    return Status(skf_infer(self_.get(), images, n, logits));
  }
  Status normalise(const std::uint8_t* pixels, std::size_t n, float* images) const {
    return Status(skf_normalise(self_.get(), pixels, n, images));
  }

  // For calls of the C ABI; the Classifier keeps the object.
  skf_classifier* get() const noexcept { return self_.get(); }

 private:
  struct Close {
    void operator()(skf_classifier* self) const noexcept { skf_close(self); }
  };

  explicit Classifier(skf_classifier* raw) : self_(raw) {
    info_.size = sizeof info_;
    skf_get_info(raw, &info_);
  }

  static Result<Classifier> own(skf_code code, skf_classifier* raw) {
    if (code != SKF_OK) return Status(code);
    return Classifier(raw);
  }

  std::vector<Answer> answers(const std::vector<std::uint32_t>& labels,
                              const std::vector<float>& scores) const {
    std::vector<Answer> all(labels.size());
    for (std::size_t i = 0; i < labels.size(); ++i) {
      const float* row = scores.data() + i * info_.classes;
      all[i] = {labels[i], {row, row + info_.classes}};
    }
    return all;
  }

  std::size_t picture_bytes() const noexcept { return std::size_t{3} * info_.height * info_.width; }

  std::unique_ptr<skf_classifier, Close> self_;
  skf_info info_{};
};

}  // namespace skipfold
