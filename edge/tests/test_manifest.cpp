#include <doctest/doctest.h>

#include <chrono>

#include "failure.hpp"
#include "made_bundle.hpp"
#include "manifest.hpp"

using nlohmann::json;

namespace {

skf_code code_of(const std::string& text, std::string& message) {
  try {
    skf::manifest_from(text);
    return SKF_OK;
  } catch (const skf::Failure& failure) {
    message = failure.what();
    return failure.code;
  }
}

void refused(const json& bundle, const std::string& part) {
  std::string message;
  CHECK(code_of(bundle.dump(), message) == SKF_MALFORMED);
  INFO(message);
  CHECK(message.find(part) != std::string::npos);
}

// Every value in `tree` that is reached through objects and through the first element of lists.
void pointers(const json& tree, const json::json_pointer& here, std::vector<json::json_pointer>& found) {
  if (tree.is_object())
    for (const auto& [key, value] : tree.items()) {
      if (here == "/files"_json_pointer || key == "settings") continue;
      found.push_back(here / key);
      pointers(value, here / key, found);
    }
  if (here == "/artifacts"_json_pointer) pointers(tree[0], here / 0, found);
}

}  // namespace

TEST_CASE("A bundle.json as it is written is read") {
  const made::Bundle bundle;
  const skf::Manifest manifest = skf::manifest_from(bundle.json().dump());
  CHECK(manifest.classes == std::vector<std::string>{"red", "green", "blue"});
  CHECK(manifest.size == 32);
  CHECK(manifest.normalisation.scale[1] == 0.0234375f);
  CHECK(manifest.normalisation.shift[2] == 0.75f);
  REQUIRE(manifest.artifacts.size() == 2);
  CHECK(manifest.artifacts[0].settings[0].second == "all");
  CHECK_FALSE(manifest.artifacts[0].takes_pixels);
  CHECK(manifest.artifacts[1].takes_pixels);
  CHECK(manifest.files.at("models/net.onnx").bytes == 9);
}

TEST_CASE("Keys that this library does not know are no error") {
  made::Bundle bundle;
  bundle.edit([](json& all) { all["picture"]["mood"] = "blue"; });
  CHECK_NOTHROW(skf::manifest_from(bundle.json().dump()));
}

TEST_CASE("What is no JSON is refused") {
  std::string message;
  for (const char* text : {"", "{", "[1,]", "\xff", "{\"schema\": \"skipfold.bundle/1\"} x"}) {
    CHECK(code_of(text, message) == SKF_MALFORMED);
    CHECK(message == "bundle.json is not JSON");
  }
  CHECK(code_of(std::string(100000, '['), message) == SKF_MALFORMED);
  CHECK(message == "bundle.json nests deeper than 32");
  CHECK(code_of("[]", message) == SKF_MALFORMED);
  CHECK(code_of("null", message) == SKF_MALFORMED);
}

TEST_CASE("A key that comes twice is refused, because readers disagree on which one counts") {
  std::string message;
  CHECK(code_of(R"({"schema": "skipfold.bundle/1", "a": 1, "schema": "skipfold.bundle/1"})", message) ==
        SKF_MALFORMED);
  CHECK(message == "bundle.json has the key schema twice in one object");
}

TEST_CASE("The time to read an object grows with its keys and not with their square") {
  made::Bundle bundle;
  json all = bundle.json();
  for (int i = 0; i < 200000; ++i) all["more"]["key " + std::to_string(i)] = i;
  for (int i = 0; i < 20000; ++i) all["files"]["file " + std::to_string(i)] = all["files"]["models/net.onnx"];
  const std::string text = all.dump();
  const auto begin = std::chrono::steady_clock::now();
  CHECK_NOTHROW(skf::manifest_from(text));
  CHECK(std::chrono::steady_clock::now() - begin < std::chrono::seconds(20));
}

TEST_CASE("An unknown schema is refused, and the message names both") {
  made::Bundle bundle;
  bundle.edit([](json& all) { all["schema"] = "skipfold.bundle/2"; });
  refused(bundle.json(), "skipfold.bundle/2");
  refused(bundle.json(), "skipfold.bundle/1");
}

TEST_CASE("Every key that is needed is missed, and no value may have another type") {
  const made::Bundle bundle;
  std::vector<json::json_pointer> found;
  pointers(bundle.json(), json::json_pointer(), found);
  CHECK(found.size() > 40);
  for (const auto& pointer : found) {
    const std::string name = pointer.to_string();
    CAPTURE(name);
    // The library reads neither, because bytes of another kind fail in the runtime.
    if (pointer.back() == "format") continue;
    json without = bundle.json();
    without[pointer.parent_pointer()].erase(pointer.back());
    refused(without, "no " + name.substr(1, name.find('/', 1) - 1));
    json other = bundle.json();
    other[pointer] = json::object({{"an", "object"}});
    std::string message;
    CHECK(code_of(other.dump(), message) == SKF_MALFORMED);
  }
}

TEST_CASE("Values that contradict each other or make no sense are refused by name") {
  const made::Bundle bundle;
  const std::vector<std::pair<std::string, json>> spoiled = {
      {"/picture/color", "bgr"},
      {"/picture/height", 0},
      {"/picture/width", 31},
      {"/classes", json::array()},
      {"/classes", {"red", 2, "blue"}},
      {"/normalise/formula", "(x-mean)/std"},
      {"/normalise/scale", {1.0, 2.0}},
      {"/normalise/shift/1", 1e60},
      {"/artifacts", json::array()},
      {"/artifacts/0/file", "models/another.onnx"},
      {"/artifacts/0/input/dtype", "float16"},
      {"/artifacts/0/input/layout", "NHWC"},
      {"/artifacts/0/input/shape", {"batch", 3, 32}},
      {"/artifacts/0/input/shape/2", 33},
      {"/artifacts/0/input/batch/min", 0},
      {"/artifacts/0/input/batch/max", 0},
      {"/artifacts/0/input/batch", {{"min", 4}, {"max", 3}}},
      {"/artifacts/0/output/dtype", "float16"},
      {"/artifacts/0/output/shape/1", 4},
      {"/artifacts/0/output/values", "scores"},
      {"/artifacts/0/runtime/settings", {{"threads", 2}}},
      {"/artifacts/0/hardware/vnni", "maybe"},
      {"/artifacts/0/hardware/compute_capability", {8.9}},
      {"/artifacts/0/golden/logits", "golden/none.f32"},
      {"/golden/fitted", "golden/none.u8"},
      {"/golden/input", "golden/none.f32"},
      {"/golden/count", 0},
      {"/golden/labels", {0, 1}},
      {"/golden/labels/0", 3},
      {"/golden/labels/0", -1},
      {"/files/golden~1input.f32/bytes", -1},
      {"/files/golden~1input.f32/sha256", "ABC"},
  };
  for (const auto& [pointer, value] : spoiled) {
    const std::string name = pointer;  // clang's lambdas cannot capture a structured binding
    CAPTURE(name);
    json all = bundle.json();
    all[json::json_pointer(name)] = value;
    refused(all, name.substr(1, name.find('/', 1) - 1));
  }
}

TEST_CASE("A path that leaves the bundle is refused") {
  for (const char* path : {"../outside", "/etc/passwd", "models/../../outside"}) {
    made::Bundle bundle;
    bundle.edit([&](json& all) { all["files"][path] = all["files"]["models/net.onnx"]; });
    refused(bundle.json(), path);
  }
}

TEST_CASE("Golden files have the size that their count asks for") {
  for (const char* file : {"golden/fitted.u8", "golden/input.f32", "golden/logits.floats.f32"}) {
    made::Bundle bundle;
    bundle.edit([&](json& all) { all["files"][file]["bytes"] = 12; });
    refused(bundle.json(), std::string(file) + " with 12 bytes");
  }
}

TEST_CASE("Two artifacts may not have one id") {
  made::Bundle bundle;
  bundle.edit([](json& all) { all["artifacts"][1]["id"] = "floats"; });
  refused(bundle.json(), "two artifacts of the id floats");
}
