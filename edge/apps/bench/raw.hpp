// An artifact of a bundle through its runtime's own API, as a program without skipfold would call it: what
// the overhead of skf_infer is measured against.
#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace bench {

// What bundle.json says of an artifact, read without skipfold's own code.
struct Artifact {
  std::string path;
  std::string runtime;
  std::string input;
  std::string output;
  std::map<std::string, std::string> settings;
  std::vector<std::size_t> input_shape;  // with the batch
  std::size_t classes = 0;

  std::size_t batch() const { return input_shape.front(); }
  std::size_t values() const;  // of the input, with the batch
};

// The artifact with an id in a bundle; throws std::runtime_error if there is none, or if its input is not
// float32.
Artifact artifact_of(const std::string& bundle, const std::string& id, std::size_t batch,
                     std::size_t threads);

// An open network for a fixed batch. Errors are exceptions, those of the runtime among them.
class Raw {
 public:
  Raw() = default;
  virtual ~Raw() = default;
  Raw(const Raw&) = delete;
  Raw& operator=(const Raw&) = delete;

  // Reads batch() normalised images and writes their logits.
  virtual void infer(const float* images, float* logits) = 0;
};

// Opens with the runtime that the artifact names; null if this program was compiled without the runtime.
std::unique_ptr<Raw> open_raw(const Artifact& artifact);

std::unique_ptr<Raw> open_openvino(const Artifact& artifact);
std::unique_ptr<Raw> open_ort(const Artifact& artifact);

}  // namespace bench
