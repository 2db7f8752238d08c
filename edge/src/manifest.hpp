// What bundle.json says, as far as the library needs it. docs/ has the JSON Schema.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "fit.hpp"
#include "folder.hpp"

namespace skf {

// One file that a runtime can open, with what has to be true here for that.
struct Artifact {
  std::string id, file, precision;
  std::string input, output;  // the names of the tensors
  bool takes_pixels;          // uint8 NHWC instead of normalised float32 NCHW
  std::string values;         // "logits" or "probabilities"
  std::uint32_t batch_min, batch_max;
  std::string runtime, verified_version, accepts;
  std::vector<std::pair<std::string, std::string>> settings;
  std::vector<std::string> archs;           // empty: any
  bool needs_vnni;                          // its weights may saturate without
  std::vector<std::uint32_t> capabilities;  // 89 is 8.9; empty: any, or no GPU
  std::string golden_logits;
  double golden_snr_db;
  bool verified;
};

struct Golden {
  std::uint32_t count;
  std::string fitted, input;
  std::vector<std::uint32_t> labels;
};

struct Manifest {
  std::vector<std::string> classes;
  std::uint32_t size;  // the height and the width of a fitted picture
  Normalisation normalisation;
  std::vector<Artifact> artifacts;
  Golden golden;
  Files files;

  std::size_t area() const { return std::size_t{size} * size; }
  std::size_t picture() const { return 3 * area(); }
};

// Fails with SKF_MALFORMED where the text is not a bundle.json of schema 1 that makes sense.
Manifest manifest_from(const std::string& text);

}  // namespace skf
