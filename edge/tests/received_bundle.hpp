// The bundle and the fixtures that the environment names, read as a program would.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "skipfold/skipfold.hpp"

namespace received {

std::string bundle();                                    // SKIPFOLD_TEST_BUNDLE
std::filesystem::path fixture(const std::string& file);  // in SKIPFOLD_TEST_FIXTURES

// Read once, so that a reference to a part of it stays good.
const nlohmann::json& manifest();
// The runtimes for CPUs whose back ends were built; each of them has to work.
std::vector<std::string> runtimes();
// The ids of all artifacts for these runtimes.
std::vector<std::string> artifacts();
// The first of them that runs in `runtime` and takes floats; the test fails if there is none.
std::string artifact_of(const std::string& runtime);
// The least signal to noise in dB that the bundle allows an artifact.
double least_snr(const std::string& artifact);

template <class T>
std::vector<T> values_in(const std::filesystem::path& file);

extern template std::vector<std::uint8_t> values_in(const std::filesystem::path&);
extern template std::vector<std::uint32_t> values_in(const std::filesystem::path&);
extern template std::vector<float> values_in(const std::filesystem::path&);

// An open classifier, or a failed test.
skipfold::Classifier open(const std::string& artifact, std::uint32_t batch = 1, std::uint32_t flags = 0,
                          std::uint32_t threads = 0);

// A copy of the bundle that a test spoils.
class Copy {
 public:
  Copy();
  Copy(const Copy&) = delete;
  Copy& operator=(const Copy&) = delete;
  ~Copy();

  // Changes the entry of one artifact.
  void edit(const std::string& artifact, const std::function<void(nlohmann::json&)>& change);
  // Replaces a file and lists its new hash.
  void write_listed(const std::string& file, const std::string& content);
  std::string read(const std::string& file) const;
  // The status of opening this artifact.
  skipfold::Status opened(const std::string& artifact) const;

 private:
  void write_manifest() const;

  std::filesystem::path folder_;
  nlohmann::json json_;
};

}  // namespace received
