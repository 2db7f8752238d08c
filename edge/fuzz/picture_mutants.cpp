// 10,000 mutated pictures through the decoders and skf_fit: each is decoded, or refused with a sentence.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "../tests/made_bundle.hpp"
#include "mutation.hpp"
#include "picture.hpp"

namespace fs = std::filesystem;

namespace {

constexpr std::uint64_t kCount = 10'000;

// The fixtures' pictures, in the order of their names.
std::vector<std::string> seeds() {
  const char* folder = std::getenv("SKIPFOLD_TEST_FIXTURES");
  REQUIRE_MESSAGE(folder, "SKIPFOLD_TEST_FIXTURES is not set");
  std::vector<fs::path> paths;
  for (const auto& entry : fs::directory_iterator(fs::path(folder) / "pictures"))
    if (entry.path().extension() != ".refused") paths.push_back(entry.path());
  std::sort(paths.begin(), paths.end());
  std::vector<std::string> contents;
  for (const fs::path& path : paths) {
    std::ifstream file(path, std::ios::binary);
    contents.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
  }
  return contents;
}

// Whether the bytes are a picture.
bool decoded_and_fitted(const std::string& content, const skf_classifier* net) {
  pictures::Picture picture;
  try {
    picture = pictures::decode(reinterpret_cast<const std::uint8_t*>(content.data()), content.size());
  } catch (const pictures::Unreadable& problem) {
    CHECK(std::string(problem.what()) != "");
    return false;
  }
  CHECK(picture.rgb.size() == std::size_t{3} * picture.width * picture.height);
  std::vector<std::uint8_t> fitted(made::kPicture);
  const std::size_t stride = std::size_t{3} * picture.width;
  CHECK(skf_fit(net, picture.rgb.data(), picture.width, picture.height, stride, fitted.data()) == SKF_OK);
  return true;
}

}  // namespace

TEST_CASE("10,000 mutated pictures") {
  const made::StandIn stand_in;
  const made::Bundle bundle;
  const made::Net net(bundle);
  const std::vector<std::string> originals = seeds();
  REQUIRE(originals.size() >= 80);
  int decoded = 0;
  for (std::uint64_t number = 0; number < kCount; ++number) {
    mutants::Random random(number);
    CAPTURE(number);
    decoded += decoded_and_fitted(mutants::mutated(random.one_of(originals), random), net);
  }
  MESSAGE(decoded << " were decoded, and the others refused");
  CHECK(decoded >= 500);
  CHECK(decoded <= 9'500);
}
