#include "received_bundle.hpp"

#include <doctest/doctest.h>
#include <stdlib.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>
#include <sstream>

#include "sha256.hpp"

namespace received {
namespace {

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

std::string content_of(const std::filesystem::path& file) {
  std::ifstream stream(file, std::ios::binary);
  INFO(file.string());
  REQUIRE(stream.good());
  std::ostringstream content;
  content << stream.rdbuf();
  return content.str();
}

}  // namespace

std::string bundle() { return environment("SKIPFOLD_TEST_BUNDLE"); }

std::filesystem::path fixture(const std::string& file) {
  return std::filesystem::path(environment("SKIPFOLD_TEST_FIXTURES")) / file;
}

const nlohmann::json& manifest() {
  static const auto json = nlohmann::json::parse(content_of(bundle() + "/bundle.json"));
  return json;
}

std::vector<std::string> runtimes() {
  std::vector<std::string> names;
  std::istringstream modules(SKIPFOLD_TEST_MODULES);
  for (std::string module; modules >> module;)
    if (module.find("tensorrt") == std::string::npos)
      names.push_back(module.substr(std::strlen("skipfold-")));
  REQUIRE(!names.empty());
  return names;
}

std::vector<std::string> artifacts() {
  const std::vector<std::string> here = runtimes();
  std::vector<std::string> ids;
  for (const auto& artifact : manifest()["artifacts"])
    if (std::count(here.begin(), here.end(), artifact["runtime"]["name"])) ids.push_back(artifact["id"]);
  REQUIRE(!ids.empty());
  return ids;
}

std::string artifact_of(const std::string& runtime) {
  for (const auto& artifact : manifest()["artifacts"])
    if (artifact["runtime"]["name"] == runtime && artifact["input"]["dtype"] == "float32")
      return artifact["id"];
  FAIL("the bundle has no artifact for " << runtime);
  return "";
}

double least_snr(const std::string& artifact) {
  for (const auto& entry : manifest()["artifacts"])
    if (entry["id"] == artifact) return entry["golden"]["snr_db"];
  FAIL("the bundle has no artifact " << artifact);
  return INFINITY;
}

template <class T>
std::vector<T> values_in(const std::filesystem::path& file) {
  const std::string content = content_of(file);
  std::vector<T> values(content.size() / sizeof(T));
  REQUIRE(values.size() * sizeof(T) == content.size());
  std::memcpy(values.data(), content.data(), content.size());
  return values;
}

template std::vector<std::uint8_t> values_in(const std::filesystem::path&);
template std::vector<std::uint32_t> values_in(const std::filesystem::path&);
template std::vector<float> values_in(const std::filesystem::path&);

skipfold::Classifier open(const std::string& artifact, std::uint32_t batch, std::uint32_t flags,
                          std::uint32_t threads) {
  skipfold::Options options;
  options.artifact = artifact.c_str();
  options.max_batch = batch, options.flags = flags, options.threads = threads;
  auto net = skipfold::Classifier::open(bundle(), options);
  INFO(net.status().message());
  REQUIRE(net);
  return std::move(*net);
}

Copy::Copy() : json_(manifest()) {
  std::string name = (std::filesystem::temp_directory_path() / "skipfold-test-XXXXXX").string();
  REQUIRE(mkdtemp(name.data()) != nullptr);
  folder_ = name;
  std::filesystem::copy(bundle(), folder_, std::filesystem::copy_options::recursive);
}

Copy::~Copy() { std::filesystem::remove_all(folder_); }

void Copy::edit(const std::string& artifact, const std::function<void(nlohmann::json&)>& change) {
  for (auto& entry : json_["artifacts"])
    if (entry["id"] == artifact) change(entry);
  write_manifest();
}

void Copy::write_listed(const std::string& file, const std::string& content) {
  std::ofstream(folder_ / file, std::ios::binary) << content;
  skf::Sha256 sha;
  sha.update(content.data(), content.size());
  json_["files"][file] = {{"sha256", sha.hex()}, {"bytes", content.size()}};
  write_manifest();
}

std::string Copy::read(const std::string& file) const { return content_of(folder_ / file); }

void Copy::write_manifest() const { std::ofstream(folder_ / "bundle.json") << json_; }

skipfold::Status Copy::opened(const std::string& artifact) const {
  skipfold::Options options;
  options.artifact = artifact.c_str();
  return skipfold::Classifier::open(folder_.string(), options).status();
}

}  // namespace received
