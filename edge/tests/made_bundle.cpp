#include "made_bundle.hpp"

#include <doctest/doctest.h>
#include <stdlib.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <fstream>
#include <memory>
#include <random>
#include <sstream>

#include "modules.hpp"
#include "sha256.hpp"

namespace made {
namespace {

// Three different means and deviations, so that a channel taken for another is seen.
constexpr float kScale[3] = {0.015625f, 0.0234375f, 0.01171875f};
constexpr float kShift[3] = {1.5f, 2.25f, 0.75f};

using nlohmann::json;

std::string hash(const std::string& content) {
  skf::Sha256 sha;
  sha.update(content.data(), content.size());
  return sha.hex();
}

template <class T>
std::string bytes_of(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

std::vector<float> image_of(const std::uint8_t* picture) {
  std::vector<float> image(kPicture);
  for (std::size_t c = 0; c < 3; ++c)
    for (std::size_t i = 0; i < kArea; ++i) {
      const float product = static_cast<float>(picture[3 * i + c]) * kScale[c];
      image[c * kArea + i] = product - kShift[c];
    }
  return image;
}

// What the stand-in computes; it allocates nothing, so that a test can see whether the library does.
using Row = std::array<float, kClasses>;

Row means_of(const float* image) {
  Row means{};
  for (std::size_t c = 0; c < kClasses; ++c) {
    double sum = 0;
    for (std::size_t i = 0; i < kArea; ++i) sum += image[c * kArea + i];
    means[c] = static_cast<float>(sum / kArea);
  }
  return means;
}

Row pixel_means_of(const std::uint8_t* picture) {
  std::array<float, kPicture> planes;
  for (std::size_t i = 0; i < kPicture; ++i) planes[i % 3 * kArea + i / 3] = picture[i];
  return means_of(planes.data());
}

json artifact(const std::string& id, bool pixels) {
  return {
      {"id", id},
      {"file", "models/net.onnx"},
      {"format", "onnx"},
      {"precision", "fp32"},
      {"input",
       {{"name", "images"},
        {"dtype", pixels ? "uint8" : "float32"},
        {"layout", pixels ? "NHWC" : "NCHW"},
        {"shape", pixels ? json::array({"batch", kSize, kSize, 3}) : json::array({"batch", 3, kSize, kSize})},
        {"batch", {{"min", 1}, {"max", nullptr}}}}},
      {"output",
       {{"name", "logits"}, {"dtype", "float32"}, {"shape", {"batch", kClasses}}, {"values", "logits"}}},
      {"runtime",
       {{"name", "ort"},
        {"verified_version", "1.31.1"},
        {"accepts", "same major and minor"},
        {"settings", {{"graph_optimization_level", "all"}}}}},
      {"hardware", {{"arch", json::array()}, {"vnni", "not needed"}, {"compute_capability", json::array()}}},
      {"golden", {{"logits", "golden/logits." + id + ".f32"}, {"snr_db", 80.0}}},
      {"verdict", {{"passed", true}}}};
}

json description(const std::vector<std::uint32_t>& labels) {
  return {{"schema", "skipfold.bundle/1"},
          {"classes", {"red", "green", "blue"}},
          {"picture", {{"color", "rgb"}, {"height", kSize}, {"width", kSize}}},
          {"normalise", {{"formula", "x*scale-shift"}, {"scale", kScale}, {"shift", kShift}}},
          {"artifacts", {artifact("floats", false), artifact("pixels", true)}},
          {"golden",
           {{"count", kCount},
            {"fitted", "golden/fitted.u8"},
            {"input", "golden/input.f32"},
            {"labels", labels}}},
          {"files", json::object()}};
}

// The stand-in's session.
struct Fake {
  explicit Fake(const skf::Request& request)
      : pixels(request.takes_pixels != 0),
        batch(request.batch),
        input(batch * kPicture),
        output(batch * kClasses) {
    ++behaviour.open_sessions;
  }
  Fake(const Fake& other)
      : pixels(other.pixels), batch(other.batch), input(other.input), output(other.output) {
    ++behaviour.open_sessions;
  }
  Fake& operator=(const Fake&) = delete;
  ~Fake() { --behaviour.open_sessions; }

  void run(std::size_t n) {
    const auto* bytes = reinterpret_cast<const std::uint8_t*>(input.data());
    for (std::size_t i = 0; i < n; ++i) {
      const auto row = pixels ? pixel_means_of(bytes + i * kPicture) : means_of(input.data() + i * kPicture);
      std::memcpy(output.data() + i * kClasses, row.data(), kClasses * sizeof(float));
    }
    output[0] += behaviour.noise;
    if (behaviour.not_a_number) output[n * kClasses - 1] = std::nanf("");
  }

  std::vector<bool> like_first(std::size_t n) const {
    const std::size_t bytes = kPicture * (pixels ? 1 : sizeof(float));
    const char* all = reinterpret_cast<const char*>(input.data());
    std::vector<bool> equal;
    for (std::size_t i = 0; i < n; ++i) equal.push_back(std::memcmp(all, all + i * bytes, bytes) == 0);
    return equal;
  }

  bool pixels;
  std::size_t batch;
  std::vector<float> input, output;
};

skf_code answer(skf_code code, skf::Text why) {
  if (code != SKF_OK) std::snprintf(why.data, why.size, "the stand-in was told to fail");
  return code;
}

skf_code session(std::unique_ptr<Fake> fake, skf::Session* out) {
  *out = {fake.get(), fake->input.data(), fake->output.data()};
  fake.release();
  return SKF_OK;
}

skf_code open(const skf::Request* request, skf::Session* out, skf::Text why) {
  behaviour.settings.clear();
  for (std::size_t i = 0; i < request->setting_count; ++i)
    behaviour.settings.emplace_back(request->settings[i].key, request->settings[i].value);
  behaviour.batch = request->batch, behaviour.threads = request->threads;
  behaviour.device = request->device;
  const bool opens = behaviour.open_code == SKF_OK || (behaviour.opens_pixels && request->takes_pixels);
  if (!opens) return answer(behaviour.open_code, why);
  return session(std::make_unique<Fake>(*request), out);
}

skf_code clone(void* self, skf::Session* out, skf::Text why) {
  if (behaviour.clone_code != SKF_OK) return answer(behaviour.clone_code, why);
  return session(std::make_unique<Fake>(*static_cast<const Fake*>(self)), out);
}

skf_code run(void* self, std::size_t pictures, skf::Text why) {
  if (behaviour.during_run)
    behaviour.during_run();
  else
    behaviour.runs.push_back(pictures);
  if (!behaviour.during_run) behaviour.like_first = static_cast<const Fake*>(self)->like_first(pictures);
  if (behaviour.run_code != SKF_OK) return answer(behaviour.run_code, why);
  static_cast<Fake*>(self)->run(pictures);
  return SKF_OK;
}

void close(void* self) { delete static_cast<Fake*>(self); }

skf::Backend table{skf::kBackendAbi, "ort", "", open, clone, run, close};

}  // namespace

Behaviour behaviour;

void Behaviour::reset() {
  version = "1.31.1";
  open_code = run_code = clone_code = SKF_OK;
  noise = 0;
  not_a_number = opens_pixels = false;
  during_run = nullptr;
  runs.clear();
}

StandIn::StandIn() {
  behaviour.reset();
  table.version = behaviour.version.c_str();
  skf::set_backend_for_tests("ort", &table);
}

StandIn::~StandIn() { skf::set_backend_for_tests("ort", nullptr); }

Bundle::Bundle() {
  std::string name = (std::filesystem::temp_directory_path() / "skipfold-test-XXXXXX").string();
  REQUIRE(mkdtemp(name.data()) != nullptr);
  folder_ = name;
  const std::vector<std::uint8_t> fitted = pictures(kCount);
  std::vector<float> images, logits, pixel_logits;
  std::vector<std::uint32_t> labels;
  for (std::size_t i = 0; i < kCount; ++i) {
    const auto image = image_of(fitted.data() + i * kPicture);
    const auto row = means_of(image.data()), pixel_row = pixel_means_of(fitted.data() + i * kPicture);
    images.insert(images.end(), image.begin(), image.end());
    logits.insert(logits.end(), row.begin(), row.end());
    pixel_logits.insert(pixel_logits.end(), pixel_row.begin(), pixel_row.end());
    labels.push_back(static_cast<std::uint32_t>(std::max_element(row.begin(), row.end()) - row.begin()));
  }
  json_ = description(labels);
  write_listed("models/net.onnx", "a network");
  write_listed("golden/fitted.u8", bytes_of(fitted));
  write_listed("golden/input.f32", bytes_of(images));
  write_listed("golden/logits.floats.f32", bytes_of(logits));
  write_listed("golden/logits.pixels.f32", bytes_of(pixel_logits));
}

Bundle::~Bundle() { std::filesystem::remove_all(folder_); }

void Bundle::write(const std::string& file, const std::string& content) const {
  std::filesystem::create_directories(at(file).parent_path());
  std::ofstream(at(file), std::ios::binary) << content;
}

std::string Bundle::read(const std::string& file) const {
  std::ostringstream content;
  content << std::ifstream(at(file), std::ios::binary).rdbuf();
  return content.str();
}

void Bundle::write_listed(const std::string& file, const std::string& content) {
  write(file, content);
  edit([&](nlohmann::json& bundle) {
    bundle["files"][file] = {{"sha256", hash(content)}, {"bytes", content.size()}};
  });
}

void Bundle::edit(const std::function<void(nlohmann::json&)>& change) {
  change(json_);
  write("bundle.json", json_.dump(1));
}

skf_options options() {
  skf_options how = {};
  how.size = sizeof how;
  return how;
}

Net::Net(const Bundle& bundle, const skf_options& how) {
  const skf_code code = skf_open(bundle.path().c_str(), &how, &self_);
  INFO(skf_message());
  REQUIRE(code == SKF_OK);
}

skf_code opened(const Bundle& bundle, const skf_options& how) {
  skf_classifier* self = nullptr;
  const skf_code code = skf_open(bundle.path().c_str(), &how, &self);
  CHECK((self != nullptr) == (code == SKF_OK));
  skf_close(self);
  return code;
}

// The colours of picture i lean to red, green or blue, so that every class comes up.
std::vector<std::uint8_t> pictures(std::size_t n) {
  std::mt19937 random(20260);
  std::vector<std::uint8_t> pixels(n * kPicture);
  for (std::size_t i = 0; i < pixels.size(); ++i) {
    const bool strong = i % 3 == i / kPicture % 3;
    pixels[i] = static_cast<std::uint8_t>(strong ? 128 + random() % 128 : random() % 100);
  }
  return pixels;
}

std::vector<float> logits_of(const std::uint8_t* picture) {
  const Row row = means_of(image_of(picture).data());
  return {row.begin(), row.end()};
}

bool says(const std::string& part) {
  const std::string message = skf_message();
  INFO(message);
  CHECK(message.find(part) != std::string::npos);
  return message.find(part) != std::string::npos;
}

}  // namespace made
