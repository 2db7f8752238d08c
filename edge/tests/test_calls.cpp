// What goes in and comes out of an open classifier.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <string>

#include "made_bundle.hpp"

namespace {

using Scores = std::vector<float>;
using Labels = std::vector<std::uint32_t>;
constexpr std::size_t kMany = 7;

skf_options batched(std::uint32_t batch, const char* artifact = "floats", std::uint32_t flags = 0) {
  skf_options how = made::options();
  how.max_batch = batch, how.artifact = artifact, how.flags = flags;
  return how;
}

Scores expected(const std::vector<std::uint8_t>& pixels) {
  Scores all;
  for (std::size_t i = 0; i < pixels.size(); i += made::kPicture)
    for (const float logit : made::logits_of(pixels.data() + i)) all.push_back(logit);
  return all;
}

std::vector<std::uint8_t> exchanged(std::vector<std::uint8_t> pixels) {
  for (std::size_t i = 0; i < pixels.size(); i += 3) std::swap(pixels[i], pixels[i + 2]);
  return pixels;
}

}  // namespace

TEST_CASE("Any number of pictures is classified in batches of any size") {
  const made::StandIn ort;
  const made::Bundle bundle;
  const auto pixels = made::pictures(kMany);
  for (const std::uint32_t batch : {0u, 1u, 2u, 3u, 7u, 64u}) {
    const made::Net net(bundle, batched(batch));
    Scores scores(kMany * 3, -99);
    Labels labels(kMany, 99);
    CHECK(skf_classify(net, pixels.data(), kMany, labels.data(), scores.data()) == SKF_OK);
    CHECK(scores == expected(pixels));
    CHECK(labels == Labels{0, 1, 2, 0, 1, 2, 0});
  }
}

TEST_CASE("Batches are as large as they may be") {
  const made::StandIn ort;
  const made::Bundle bundle;
  const made::Net net(bundle, batched(3, "floats", SKF_NO_SELF_TEST));
  Labels labels(kMany);
  CHECK(skf_classify(net, made::pictures(kMany).data(), kMany, labels.data(), nullptr) == SKF_OK);
  CHECK(made::behaviour.runs == std::vector<std::size_t>{3, 3, 1});
}

TEST_CASE("A model with a fixed batch is given whole batches, and its padding does not come out") {
  const made::StandIn ort;
  made::Bundle bundle;
  bundle.edit([](auto& all) {
    for (auto& artifact : all["artifacts"]) artifact["input"]["batch"] = {{"min", 4}, {"max", 4}};
  });
  for (const char* artifact : {"floats", "pixels"}) {
    const made::Net net(bundle, batched(1, artifact));
    made::behaviour.runs.clear();
    const auto pixels = made::pictures(kMany);
    Scores scores(kMany * 3 + 1, -99);
    Labels labels(kMany);
    CHECK(skf_classify(net, pixels.data(), kMany, labels.data(), scores.data()) == SKF_OK);
    CHECK(labels == Labels{0, 1, 2, 0, 1, 2, 0});
    CHECK(scores.back() == -99);
    CHECK(made::behaviour.runs == std::vector<std::size_t>{4, 4});
    // The last batch had 3 pictures, and what fills it up is no picture of the batch before.
    CHECK(made::behaviour.like_first == std::vector<bool>{true, false, false, true});
  }
}

TEST_CASE("Floats go in as they are, and give what the pixels give") {
  const made::StandIn ort;
  const made::Bundle bundle;
  const made::Net net(bundle, batched(2));
  const auto pixels = made::pictures(kMany);
  std::vector<float> images(kMany * made::kPicture);
  CHECK(skf_normalise(net, pixels.data(), kMany, images.data()) == SKF_OK);
  Scores logits(kMany * 3);
  CHECK(skf_infer(net, images.data(), kMany, logits.data()) == SKF_OK);
  CHECK(logits == expected(pixels));
}

TEST_CASE("Blue, green, red is red, green, blue exchanged, for floats and for pixels") {
  const made::StandIn ort;
  const made::Bundle bundle;
  const auto rgb = made::pictures(kMany), bgr = exchanged(rgb);
  CHECK(rgb != bgr);
  for (const char* artifact : {"floats", "pixels"}) {
    const made::Net straight(bundle, batched(2, artifact)), turned(bundle, batched(2, artifact, SKF_BGR));
    Scores one(kMany * 3), other(kMany * 3);
    CHECK(skf_classify(straight, rgb.data(), kMany, nullptr, one.data()) == SKF_OK);
    CHECK(skf_classify(turned, bgr.data(), kMany, nullptr, other.data()) == SKF_OK);
    CHECK(one == other);
    CHECK(skf_classify(turned, rgb.data(), kMany, nullptr, other.data()) == SKF_OK);
    CHECK(one != other);
  }
  const made::Net straight(bundle), turned(bundle, batched(1, "floats", SKF_BGR));
  std::vector<float> one(made::kPicture), other(made::kPicture);
  CHECK(skf_normalise(straight, rgb.data(), 1, one.data()) == SKF_OK);
  CHECK(skf_normalise(turned, bgr.data(), 1, other.data()) == SKF_OK);
  CHECK(one == other);
}

TEST_CASE("An artifact that takes pixels refuses floats") {
  const made::StandIn ort;
  const made::Bundle bundle;
  const made::Net net(bundle, batched(1, "pixels"));
  const std::vector<float> images(made::kPicture);
  float logits[3];
  CHECK(skf_infer(net, images.data(), 1, logits) == SKF_ARGUMENT);
  made::says("skf_classify");
}

TEST_CASE("Images that are not finite are refused, and nothing is run") {
  const made::StandIn ort;
  const made::Bundle bundle;
  const made::Net net(bundle, batched(1, "floats", SKF_NO_SELF_TEST));
  for (const float bad : {std::nanf(""), INFINITY, -INFINITY}) {
    std::vector<float> images(made::kPicture);
    images.back() = bad;
    float logits[3];
    CHECK(skf_infer(net, images.data(), 1, logits) == SKF_ARGUMENT);
    made::says("NaN or infinity");
  }
  CHECK(made::behaviour.runs.empty());
  std::vector<float> largest(made::kPicture, std::numeric_limits<float>::max());
  float logits[3];
  CHECK(skf_infer(net, largest.data(), 1, logits) == SKF_OK);
}

TEST_CASE("A runtime that fails in a call says so, and the object can be used again") {
  const made::StandIn ort;
  const made::Bundle bundle;
  const made::Net net(bundle);
  const auto pixels = made::pictures(1);
  std::uint32_t label = 99;
  made::behaviour.run_code = SKF_RUNTIME;
  CHECK(skf_classify(net, pixels.data(), 1, &label, nullptr) == SKF_RUNTIME);
  made::says("the stand-in was told to fail");
  CHECK(label == 99);
  made::behaviour.run_code = SKF_OK, made::behaviour.not_a_number = true;
  CHECK(skf_classify(net, pixels.data(), 1, &label, nullptr) == SKF_RUNTIME);
  CHECK(label == 99);
  made::behaviour.not_a_number = false;
  CHECK(skf_classify(net, pixels.data(), 1, &label, nullptr) == SKF_OK);
  CHECK(label == 0);
}

TEST_CASE("A score that is not finite is found in any picture of a batch") {
  const made::StandIn ort;
  const made::Bundle bundle;
  const made::Net net(bundle, batched(3));
  std::vector<float> scores(9, -99);
  made::behaviour.not_a_number = true;
  CHECK(skf_classify(net, made::pictures(3).data(), 3, nullptr, scores.data()) == SKF_RUNTIME);
  made::says("nan for class 2 of picture 2");
  CHECK(scores == std::vector<float>(9, -99));
}

TEST_CASE("A picture is fitted to the network's size") {
  const made::StandIn ort;
  const made::Bundle bundle;
  const made::Net net(bundle);
  const std::vector<std::uint8_t> pixels(100 * 40 * 3, 9);
  std::vector<std::uint8_t> out(made::kPicture);
  CHECK(skf_fit(net, pixels.data(), 100, 40, 300, out.data()) == SKF_OK);
  CHECK(out == std::vector<std::uint8_t>(made::kPicture, 9));
}

TEST_CASE("A clone is an object of its own, which outlives the first") {
  const made::StandIn ort;
  const made::Bundle bundle;
  const auto pixels = made::pictures(1);
  skf_classifier* first = nullptr;
  REQUIRE(skf_open(bundle.path().c_str(), nullptr, &first) == SKF_OK);
  skf_classifier* raw = nullptr;
  REQUIRE(skf_clone(first, &raw) == SKF_OK);
  const made::Net second(raw);
  skf_close(first);
  std::uint32_t label = 99;
  CHECK(skf_classify(second, pixels.data(), 1, &label, nullptr) == SKF_OK);
  CHECK(label == 0);
  CHECK(std::string(skf_class_name(second, 0)) == "red");
  made::behaviour.clone_code = SKF_RUNTIME;
  raw = nullptr;
  CHECK(skf_clone(second, &raw) == SKF_RUNTIME);
  CHECK(raw == nullptr);
  CHECK(made::behaviour.open_sessions == 1);
}
