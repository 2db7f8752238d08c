// Every picture of the fixtures is decoded to the pixels that Python decodes, or refused.
// tools/edge/pictures.py makes them; the environment variable SKIPFOLD_TEST_FIXTURES names the folder of the
// fixtures.
#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "picture.hpp"

namespace fs = std::filesystem;

namespace {

fs::path folder() {
  const char* name = std::getenv("SKIPFOLD_TEST_FIXTURES");
  REQUIRE_MESSAGE(name, "SKIPFOLD_TEST_FIXTURES is not set");
  return fs::path(name) / "pictures";
}

std::vector<fs::path> samples() {
  std::vector<fs::path> all;
  for (const auto& entry : fs::directory_iterator(folder())) {
    const fs::path suffix = entry.path().extension();
    if (suffix == ".png" || suffix == ".jpg" || suffix == ".pnm") all.push_back(entry.path());
  }
  std::sort(all.begin(), all.end());
  return all;
}

fs::path beside(const fs::path& sample, const char* suffix) { return sample.string() + suffix; }

std::vector<std::uint8_t> bytes(const std::string& text) { return {text.begin(), text.end()}; }

pictures::Picture decoded(const std::string& text) {
  const std::vector<std::uint8_t> content = bytes(text);
  return pictures::decode(content.data(), content.size());
}

}  // namespace

TEST_CASE("every picture has Python's pixels or is refused") {
  std::size_t equal = 0;
  std::size_t refused = 0;
  for (const fs::path& sample : samples()) {
    CAPTURE(sample.filename().string());
    if (fs::exists(beside(sample, ".refused"))) {
      CHECK_THROWS_AS(pictures::read(sample.string()), pictures::Unreadable);
      ++refused;
      continue;
    }
    pictures::Picture found;
    REQUIRE_NOTHROW(found = pictures::read(sample.string()));
    const pictures::Picture expected = pictures::read(beside(sample, ".ppm").string());
    CHECK(found.width == expected.width);
    CHECK(found.height == expected.height);
    // A message with two whole pictures would be of no use.
    const bool same = found.rgb == expected.rgb;
    CHECK(same);
    ++equal;
  }
  MESSAGE(equal << " equal, " << refused << " refused");
  CHECK(equal >= 50);
  CHECK(refused >= 15);
}

TEST_CASE("the pixels of a PPM file are its bytes, and grey is repeated") {
  const pictures::Picture colour = decoded("P6 2 1 255\nabcdef");
  CHECK(colour.width == 2);
  CHECK(colour.height == 1);
  CHECK(colour.rgb == bytes("abcdef"));
  CHECK(decoded("P5 1 2 255\nab").rgb == bytes("aaabbb"));
}

TEST_CASE("a refusal says why") {
  CHECK_THROWS_WITH(decoded("GIF89a"), "it is not a PNG, JPEG or PNM file");
  CHECK_THROWS_WITH(decoded("P6 2 1 255\nabcde"), "it is truncated");
  CHECK_THROWS_WITH(decoded("P6 20000 20000 255\nabcde"), "it has more than 89,478,485 pixels");
  CHECK_THROWS_WITH(decoded("P6 2 1 65535\nabcde"), "its value of white is not 255");
  CHECK_THROWS_WITH(pictures::read("no such file"), "the file cannot be opened");
}
