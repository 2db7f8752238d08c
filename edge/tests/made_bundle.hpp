// A bundle that a test makes and spoils, with a network of three classes that a table of functions stands in
// for: its logits are the mean red, green and blue of a normalised image.
#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "backend.hpp"
#include "skipfold/skipfold.h"

namespace made {

constexpr std::uint32_t kSize = 32, kCount = 5, kClasses = 3;
constexpr std::size_t kArea = kSize * kSize, kPicture = 3 * kArea;

// A folder of its own, which is removed with the object.
class Bundle {
 public:
  Bundle();
  Bundle(const Bundle&) = delete;
  Bundle& operator=(const Bundle&) = delete;
  ~Bundle();

  // Changes bundle.json and writes it.
  void edit(const std::function<void(nlohmann::json&)>& change);
  // Writes a file and lists it with the hash of its new content.
  void write_listed(const std::string& file, const std::string& content);
  // Writes a file behind bundle.json's back.
  void write(const std::string& file, const std::string& content) const;
  std::string read(const std::string& file) const;

  std::string path() const { return folder_.string(); }
  std::filesystem::path at(const std::string& file) const { return folder_ / file; }
  const nlohmann::json& json() const { return json_; }

 private:
  std::filesystem::path folder_;
  nlohmann::json json_;
};

// How the stand-in for the runtime behaves; reset() goes back to a network that works.
struct Behaviour {
  std::string version = "1.31.1";
  skf_code open_code = SKF_OK, run_code = SKF_OK, clone_code = SKF_OK;
  bool opens_pixels = false;  // whatever open_code says
  float noise = 0;            // added to the first logit of a run
  bool not_a_number = false;  // in place of the last logit of a run
  std::function<void()> during_run;
  std::vector<std::size_t> runs;                              // pictures of each run
  std::vector<std::pair<std::string, std::string>> settings;  // of the last open
  std::uint32_t batch = 0, threads = 0, device = 0;
  std::vector<bool> like_first;  // of the last run: whether each picture is the first one once more
  std::atomic<int> open_sessions{0};

  void reset();
};

extern Behaviour behaviour;

// Puts the stand-in in place of the back end "ort" for the length of a test.
class StandIn {
 public:
  StandIn();
  StandIn(const StandIn&) = delete;
  StandIn& operator=(const StandIn&) = delete;
  ~StandIn();
};

// Options of this version.
skf_options options();

// An open classifier that closes itself.
class Net {
 public:
  explicit Net(const Bundle& bundle, const skf_options& how = options());
  explicit Net(skf_classifier* self) : self_(self) {}
  Net(const Net&) = delete;
  Net& operator=(const Net&) = delete;
  ~Net() { skf_close(self_); }
  operator skf_classifier*() const { return self_; }

 private:
  skf_classifier* self_ = nullptr;
};

// The code of skf_open; the object, if there is one, is closed again.
skf_code opened(const Bundle& bundle, const skf_options& how = options());

// Pictures of pseudo-random colours.
std::vector<std::uint8_t> pictures(std::size_t n);

// The logits of one picture, computed here.
std::vector<float> logits_of(const std::uint8_t* picture);

bool says(const std::string& part);  // whether skf_message() has this part

}  // namespace made
