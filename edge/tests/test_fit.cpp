#include <doctest/doctest.h>

#include <vector>

#include "fit.hpp"

namespace {

using Pixels = std::vector<std::uint8_t>;

Pixels fitted(const Pixels& pixels, std::uint32_t width, std::uint32_t height, std::size_t stride,
              std::uint32_t size) {
  Pixels out(std::size_t{3} * size * size);
  skf::fit(pixels.data(), width, height, stride, size, out.data());
  return out;
}

// A picture whose red is the column, green the row, blue 7.
Pixels coordinates(std::uint32_t width, std::uint32_t height, std::size_t stride) {
  Pixels pixels(stride * height, 255);
  for (std::uint32_t y = 0; y < height; ++y)
    for (std::uint32_t x = 0; x < width; ++x) {
      std::uint8_t* pixel = &pixels[y * stride + 3 * x];
      pixel[0] = static_cast<std::uint8_t>(x), pixel[1] = static_cast<std::uint8_t>(y), pixel[2] = 7;
    }
  return pixels;
}

}  // namespace

TEST_CASE("The centre square is cut with halves rounded down") {
  // 9 x 4: the square begins at column (9 - 4) / 2 = 2. The rows have a gap of 5 bytes.
  const Pixels out = fitted(coordinates(9, 4, 32), 9, 4, 32, 4);
  for (std::size_t y = 0; y < 4; ++y)
    for (std::size_t x = 0; x < 4; ++x) {
      CHECK(out[3 * (4 * y + x)] == x + 2);
      CHECK(out[3 * (4 * y + x) + 1] == y);
    }
  // 4 x 9: the square begins at row 2.
  CHECK(fitted(coordinates(4, 9, 12), 4, 9, 12, 4)[1] == 2);
}

TEST_CASE("Halving weighs by the triangle, whose part outside of the picture is left out") {
  Pixels pixels;
  for (int y = 0; y < 4; ++y)
    for (const int code : {0, 0, 80, 80}) pixels.insert(pixels.end(), 3, static_cast<std::uint8_t>(code));
  const Pixels out = fitted(pixels, 4, 4, 12, 2);
  // Pixel 0 weighs the codes 0, 1, 2 by 3, 3, 1: 80 / 7 = 11.4. Pixel 1 by 1, 3, 3 from code 1 on: 480 / 7
  // = 68.6.
  CHECK(out[0] == 11);
  CHECK(out[3] == 69);
}

TEST_CASE("A picture of one pixel fills the square") {
  CHECK(fitted({1, 2, 3}, 1, 1, 3, 2) == Pixels{1, 2, 3, 1, 2, 3, 1, 2, 3, 1, 2, 3});
}

TEST_CASE("A picture of one colour keeps it at every size") {
  for (std::uint32_t side = 1; side < 200; ++side)
    for (const int code : {0, 1, 127, 254, 255}) {
      const Pixels out = fitted(Pixels(std::size_t{3} * side * side, static_cast<std::uint8_t>(code)), side,
                                side, std::size_t{3} * side, 32);
      REQUIRE(out == Pixels(3 * 32 * 32, static_cast<std::uint8_t>(code)));
    }
}

TEST_CASE("Each channel has its own scale and shift, and blue may come first") {
  const skf::Normalisation by{{1, 10, 100}, {0.5f, 1.5f, 2.5f}};
  const std::uint8_t pixels[] = {1, 2, 3, 4, 5, 6};
  float images[6];
  skf::normalise(pixels, 1, 2, false, by, images);
  const float rgb[] = {0.5f, 3.5f, 18.5f, 48.5f, 297.5f, 597.5f};
  for (int i = 0; i < 6; ++i) CHECK(images[i] == rgb[i]);
  skf::normalise(pixels, 1, 2, true, by, images);
  const float bgr[] = {2.5f, 5.5f, 18.5f, 48.5f, 97.5f, 397.5f};
  for (int i = 0; i < 6; ++i) CHECK(images[i] == bgr[i]);
}

TEST_CASE("The product is rounded before the difference") {
  // 1.1f * 3 is 3.30000007… and rounds to 3.3000002f; the exact difference would be another float.
  const skf::Normalisation by{{1.1f, 1, 1}, {3.3f, 0, 0}};
  const std::uint8_t pixel[] = {3, 0, 0};
  float image[3];
  skf::normalise(pixel, 1, 1, false, by, image);
  volatile float product = 3 * 1.1f;
  CHECK(image[0] == product - 3.3f);
  CHECK(image[0] != static_cast<float>(3 * static_cast<double>(1.1f) - static_cast<double>(3.3f)));
}
