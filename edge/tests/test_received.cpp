// A bundle as a program receives it.
#include <doctest/doctest.h>

#include <string>

#include "received_bundle.hpp"

TEST_CASE(
    "The first artifact opens, and every artifact whose runtime is here stands its self-test in every "
    "batch") {
  CHECK(skf_check(received::bundle().c_str(), nullptr) == SKF_OK);
  const auto first = skipfold::Classifier::open(received::bundle());
  INFO(first.status().message());
  REQUIRE(first);
  if (first->info().skipped[0] == '\0') CHECK(first->info().artifact == received::artifacts().front());
  for (const std::string& artifact : received::artifacts())
    for (const std::uint32_t batch : {1u, 5u, 32u}) {
      CAPTURE(artifact);
      CAPTURE(batch);
      const auto net = received::open(artifact, batch);
      CHECK(net.info().snr_db >= received::least_snr(artifact));
      if (net.info().precision == std::string("fp32")) CHECK(net.info().snr_db >= 80);
    }
}

TEST_CASE("Opening reports what was opened to the log") {
  std::string lines;
  skipfold::Options options;
  options.user = &lines;
  options.log = [](void* user, int, const char* text) { *static_cast<std::string*>(user) += text; };
  const auto net = skipfold::Classifier::open(received::bundle(), options);
  REQUIRE(net);
  CHECK(lines.find(std::string(net->info().artifact) + " is open in") != std::string::npos);
  CHECK(lines.find(" dB") != std::string::npos);
}

TEST_CASE("Golden logits of another network are refused, and the message has both figures") {
  for (const std::string& artifact : received::artifacts()) {
    received::Copy copy;
    const std::string file = "golden/logits." + artifact + ".f32";
    std::string logits = copy.read(file);
    for (std::size_t i = 3; i < logits.size(); i += 4)
      logits[i] = static_cast<char>(logits[i] ^ 1);  // times 4, or 1/4
    copy.write_listed(file, logits);
    const skipfold::Status status = copy.opened(artifact);
    CHECK(status.code() == SKF_TOLERANCE);
    CHECK(status.message().find("the bundle asks for") != std::string::npos);
  }
}

TEST_CASE("The classes have their names, through fit and classify of the C++ layer") {
  auto net = received::open(received::artifacts().front(), 8);
  const auto labels = received::manifest()["golden"]["labels"].get<std::vector<std::uint32_t>>();
  const auto pixels = received::values_in<std::uint8_t>(received::bundle() + "/golden/fitted.u8");
  const auto answers = net.classify(pixels);
  REQUIRE(answers);
  REQUIRE(answers->size() == labels.size());
  for (std::size_t i = 0; i < labels.size(); ++i) {
    CHECK((*answers)[i].label == labels[i]);
    CHECK(net.name((*answers)[i].label) == received::manifest()["classes"][labels[i]]);
    CHECK((*answers)[i].scores.size() == net.info().classes);
  }
  const auto fitted = net.fit(pixels.data(), net.info().width, net.info().height);
  REQUIRE(fitted);
  CHECK(std::equal(fitted->begin(), fitted->end(), pixels.begin()));
  CHECK(net.name(net.info().classes).empty());
  for (const std::size_t bytes : {0u, 5u, 3073u}) {
    const auto none = net.classify(skipfold::Pixels(bytes));
    CHECK(none.status().code() == SKF_ARGUMENT);
    CHECK(none.status().message() ==
          std::to_string(bytes) + " bytes are no whole number of pictures of 3072 bytes");
  }
  CHECK(net.fit(nullptr, 1, 1).status().code() == SKF_ARGUMENT);
}
