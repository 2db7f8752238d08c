// An open artifact: what is shared by clones (Network), and what each of them has of its own (Runner).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "backend.hpp"
#include "manifest.hpp"

namespace skf {

// Immutable once skf_open has returned.
struct Network {
  Manifest manifest;
  Artifact artifact;
  const Backend* backend;
  std::uint32_t batch;  // the most pictures of one run
  bool bgr;
  std::string skipped;
  double snr_db;

  std::size_t classes() const { return manifest.classes.size(); }
};

// A session of the runtime; not for two threads at once.
class Runner {
 public:
  // Opens the model. `why` of the runtime becomes the failure's text.
  Runner(const Network& network, const Request& request);
  Runner(const Runner&) = delete;
  Runner& operator=(const Runner&) = delete;
  ~Runner();

  // One more session of the same model, for an equal network.
  std::unique_ptr<Runner> clone(const Network& network) const;

  // `labels` and `scores` may be null.
  void classify(const std::uint8_t* pixels, std::size_t n, bool bgr, std::uint32_t* labels, float* scores);
  // Images of float32; SKF_ARGUMENT if a value is not finite.
  void infer(const float* images, std::size_t n, float* logits);

 private:
  explicit Runner(const Network& network);

  void run(std::size_t pictures);
  void pad(std::size_t pictures);
  void require_finite_scores(std::size_t pictures) const;
  void take_pixels(const std::uint8_t* pixels, std::size_t n, bool bgr);
  void take_images(const float* images, std::size_t n);

  const Network& network_;
  Session session_{};
};

}  // namespace skf
