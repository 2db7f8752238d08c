// The golden pictures of the bundle through every artifact.
#include <doctest/doctest.h>

#include <string>

#include "received_bundle.hpp"

TEST_CASE("Every artifact stands its self-test and gives the golden pictures the labels of the bundle" *
          doctest::test_suite("golden")) {
  const auto labels = received::manifest()["golden"]["labels"].get<std::vector<std::uint32_t>>();
  const auto pixels = received::values_in<std::uint8_t>(received::bundle() + "/golden/fitted.u8");
  for (const std::string& artifact : received::artifacts()) {
    CAPTURE(artifact);
    auto net = received::open(artifact, 32);
    MESSAGE(artifact << " on the golden pictures: " << net.info().snr_db << " dB from the golden logits");
    CHECK(net.info().snr_db >= received::least_snr(artifact));
    std::vector<std::uint32_t> given(labels.size());
    REQUIRE(net.classify(pixels.data(), labels.size(), given.data()));
    CHECK(given == labels);
  }
}
