#include <doctest/doctest.h>

#include <cstdio>
#include <fstream>
#include <string>

#include "received_bundle.hpp"

namespace {

struct Picture {
  std::uint32_t width = 0, height = 0;
  std::vector<std::uint8_t> pixels;
};

// A binary PPM without comments, as Pillow writes it.
Picture picture_in(const std::string& name) {
  std::ifstream file(received::fixture("fits/" + name), std::ios::binary);
  std::string magic;
  Picture picture;
  std::uint32_t white = 0;
  file >> magic >> picture.width >> picture.height >> white;
  REQUIRE(magic == "P6");
  REQUIRE(white == 255);
  file.get();
  picture.pixels.resize(std::size_t{3} * picture.width * picture.height);
  file.read(reinterpret_cast<char*>(picture.pixels.data()),
            static_cast<std::streamsize>(picture.pixels.size()));
  REQUIRE(file.good());
  return picture;
}

// The same picture with a gap of 7 bytes behind each row.
std::vector<std::uint8_t> with_gaps(const Picture& picture) {
  const std::size_t row = std::size_t{3} * picture.width;
  std::vector<std::uint8_t> wide((row + 7) * picture.height, 77);
  for (std::size_t y = 0; y < picture.height; ++y)
    std::copy_n(picture.pixels.data() + y * row, row, wide.data() + y * (row + 7));
  return wide;
}

}  // namespace

TEST_CASE("400 pictures of odd sizes are cut and resized as Python does it, bit for bit" *
          doctest::test_suite("golden")) {
  const auto net = received::open(received::artifacts().front(), 1, SKF_NO_SELF_TEST);
  const auto expected = received::values_in<std::uint8_t>(received::fixture("fits/fitted.u8"));
  const std::size_t bytes = std::size_t{3} * net.info().height * net.info().width;
  REQUIRE(expected.size() == 400 * bytes);
  for (std::size_t i = 0; i < 400; ++i) {
    char name[16];
    std::snprintf(name, sizeof name, "%03u.ppm", static_cast<unsigned>(i));
    CAPTURE(name);
    const Picture picture = picture_in(name);
    const skipfold::Pixels wanted(expected.data() + i * bytes, expected.data() + (i + 1) * bytes);
    const auto fitted = net.fit(picture.pixels.data(), picture.width, picture.height);
    REQUIRE(fitted);
    CHECK(*fitted == wanted);
    const auto wide = with_gaps(picture);
    const auto again =
        net.fit(wide.data(), picture.width, picture.height, std::size_t{3} * picture.width + 7);
    REQUIRE(again);
    CHECK(*again == wanted);
  }
}
