// The whole test split against what Python computed with the same artifact.
#include <doctest/doctest.h>

#include <string>

#include "received_bundle.hpp"
#include "snr.hpp"

namespace {

std::vector<std::uint32_t> labels_of(const std::vector<float>& scores, std::size_t classes) {
  std::vector<std::uint32_t> labels;
  for (std::size_t i = 0; i < scores.size(); i += classes)
    labels.push_back(skf::argmax(scores.data() + i, classes));
  return labels;
}

// Classifies the whole split, compares labels and logits with Python's, and returns the logits.
std::vector<float> compared_with_python(skipfold::Classifier& net, const std::string& artifact) {
  const auto pixels = received::values_in<std::uint8_t>(received::fixture("split/images.u8"));
  const std::size_t n = received::values_in<std::uint32_t>(received::fixture("split/classes.u32")).size();
  REQUIRE(n >= 360);
  const auto python = received::values_in<float>(received::fixture("split/logits." + artifact + ".f32"));
  std::vector<float> scores(python.size());
  std::vector<std::uint32_t> labels(n);
  REQUIRE(net.classify(pixels.data(), n, labels.data(), scores.data()));
  CHECK(labels == labels_of(python, net.info().classes));
  CHECK(labels == labels_of(scores, net.info().classes));
  const double snr = skf::snr_db(python.data(), scores.data(), scores.size());
  MESSAGE(artifact << " on " << n << " pictures: " << snr << " dB from Python's logits");
  CHECK(snr >= received::least_snr(artifact));
  return scores;
}

}  // namespace

TEST_CASE("Labels are Python's and logits within the tolerance, for every artifact" *
          doctest::test_suite("golden")) {
  for (const std::string& artifact : received::artifacts()) {
    CAPTURE(artifact);
    auto net = received::open(artifact, 32, SKF_NO_SELF_TEST);
    compared_with_python(net, artifact);
  }
}

TEST_CASE("The same is true in every batch, and infer gives what classify gives") {
  const auto pixels = received::values_in<std::uint8_t>(received::fixture("split/images.u8"));
  for (const std::string& artifact : received::artifacts())
    for (const std::uint32_t batch : {1u, 7u, 64u}) {
      CAPTURE(artifact);
      CAPTURE(batch);
      auto net = received::open(artifact, batch);
      const auto scores = compared_with_python(net, artifact);
      if (net.info().takes_pixels) continue;
      std::vector<float> images(pixels.size()), logits(scores.size());
      const std::size_t n = scores.size() / net.info().classes;
      REQUIRE(net.normalise(pixels.data(), n, images.data()));
      REQUIRE(net.infer(images.data(), n, logits.data()));
      CHECK(logits == scores);
    }
}

TEST_CASE("Blue before red gives the same logits where the caller says so, and others where not") {
  auto pixels = received::values_in<std::uint8_t>(received::fixture("split/images.u8"));
  pixels.resize(8 * 3 * 32 * 32);
  for (std::size_t i = 0; i < pixels.size(); i += 3)
    pixels[i] = static_cast<std::uint8_t>(pixels[i] / 2);  // not grey
  auto turned = pixels;
  for (std::size_t i = 0; i < turned.size(); i += 3) std::swap(turned[i], turned[i + 2]);
  for (const std::string& artifact : received::artifacts()) {
    CAPTURE(artifact);
    auto rgb = received::open(artifact, 4), bgr = received::open(artifact, 4, SKF_BGR);
    std::vector<float> one(8 * rgb.info().classes), same(one.size()), other(one.size());
    REQUIRE(rgb.classify(pixels.data(), 8, nullptr, one.data()));
    REQUIRE(bgr.classify(turned.data(), 8, nullptr, same.data()));
    REQUIRE(rgb.classify(turned.data(), 8, nullptr, other.data()));
    CHECK(one == same);
    CHECK(one != other);
  }
}
