#include "network.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "failure.hpp"
#include "snr.hpp"

namespace skf {
namespace {

// OpenVINO ends its messages with empty lines.
std::string without_last_lines(std::string text) {
  text.erase(text.find_last_not_of(" \n") + 1);
  return text;
}

// Calls a function of a back end's table, whose last argument is where it writes why it fails.
template <class Function, class... Arguments>
void call(Function function, Arguments... arguments) {
  char why[1024];
  why[0] = '\0';  // not = "", which would clear all of it in every call
  const skf_code code = function(arguments..., Text{why, sizeof why});
  if (code != SKF_OK) throw Failure(code, without_last_lines(why));
}

// Whether all exponents leave room: infinity and NaN have all 8 bits set. This form is vectorized,
// std::isfinite is not.
bool all_finite(const float* values, std::size_t n) {
  std::uint32_t not_finite = 0;
  for (std::size_t i = 0; i < n; ++i) {
    std::uint32_t bits;
    std::memcpy(&bits, values + i, sizeof bits);
    not_finite |= static_cast<std::uint32_t>((bits & 0x7f800000u) == 0x7f800000u);
  }
  return not_finite == 0;
}

}  // namespace

Runner::Runner(const Network& network) : network_(network) {}

Runner::Runner(const Network& network, const Request& request) : network_(network) {
  call(network.backend->open, &request, &session_);
}

Runner::~Runner() {
  if (session_.self) network_.backend->close(session_.self);
}

std::unique_ptr<Runner> Runner::clone(const Network& network) const {
  std::unique_ptr<Runner> other(new Runner(network));
  call(network.backend->clone, session_.self, &other->session_);
  return other;
}

void Runner::classify(const std::uint8_t* pixels, std::size_t n, bool bgr, std::uint32_t* labels,
                      float* scores) {
  const std::size_t classes = network_.classes();
  for (std::size_t done = 0; done < n;) {
    const std::size_t count = std::min<std::size_t>(n - done, network_.batch);
    take_pixels(pixels + done * network_.manifest.picture(), count, bgr);
    run(count);
    if (scores) std::copy_n(session_.output, count * classes, scores + done * classes);
    if (labels)
      for (std::size_t i = 0; i < count; ++i)
        labels[done + i] = argmax(session_.output + i * classes, classes);
    done += count;
  }
}

void Runner::infer(const float* images, std::size_t n, float* logits) {
  const std::size_t classes = network_.classes();
  for (std::size_t done = 0; done < n;) {
    const std::size_t count = std::min<std::size_t>(n - done, network_.batch);
    take_images(images + done * network_.manifest.picture(), count);
    run(count);
    std::copy_n(session_.output, count * classes, logits + done * classes);
    done += count;
  }
}

void Runner::run(std::size_t pictures) {
  pad(pictures);
  call(network_.backend->run, session_.self, std::max<std::size_t>(pictures, network_.artifact.batch_min));
  require_finite_scores(pictures);
}

// Fills a batch that is smaller than the model takes with copies of its first picture.
void Runner::pad(std::size_t pictures) {
  const std::size_t bytes =
      network_.manifest.picture() * (network_.artifact.takes_pixels ? 1 : sizeof(float));
  char* input = static_cast<char*>(session_.input);
  for (std::size_t i = pictures; i < network_.artifact.batch_min; ++i)
    std::memcpy(input + i * bytes, input, bytes);
}

void Runner::require_finite_scores(std::size_t pictures) const {
  if (all_finite(session_.output, pictures * network_.classes())) return;
  const float* bad = std::find_if(session_.output, session_.output + pictures * network_.classes(),
                                  [](float score) { return !std::isfinite(score); });
  const auto index = static_cast<std::size_t>(bad - session_.output);
  fail(SKF_RUNTIME, network_.backend->name, " gave ", *bad, " for class ", index % network_.classes(),
       " of picture ", index / network_.classes(), " of a batch, and a score is finite");
}

void Runner::take_pixels(const std::uint8_t* pixels, std::size_t n, bool bgr) {
  const Manifest& manifest = network_.manifest;
  if (!network_.artifact.takes_pixels)
    return normalise(pixels, n, manifest.area(), bgr, manifest.normalisation,
                     static_cast<float*>(session_.input));
  auto* input = static_cast<std::uint8_t*>(session_.input);
  if (bgr) return exchange_red_and_blue(pixels, n * manifest.area(), input);
  std::copy_n(pixels, n * manifest.picture(), input);
}

// Some kernels turn NaN into 0, and codes of INT8 saturate, so that images that are not finite would give
// finite logits.
void Runner::take_images(const float* images, std::size_t n) {
  const std::size_t values = n * network_.manifest.picture();
  require_argument(all_finite(images, values), "the images hold NaN or infinity");
  std::copy_n(images, values, static_cast<float*>(session_.input));
}

}  // namespace skf
