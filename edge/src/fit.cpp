// The resize is Pillow's BILINEAR on 8-bit codes (Pillow, src/libImaging/Resample.c), one axis at a time.
// With s = in / out and f = max(s, 1), the pixel x of the result is centred at c = (x + 1/2) s and weighs the
// pixel i by the triangle
//
//     max(0, 1 - |i + 1/2 - c| / f),   floor(c - f + 1/2) <= i < floor(c + f + 1/2),
//
// divided by the sum of the weights, computed in double and rounded to integers of 22 bits behind the point.
// The sum of integer products is rounded half up to a code.
#include "fit.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

namespace skf {
namespace {

// 32 bits, less 8 for the code and 2 for the sum of weights, which may exceed 1.
constexpr int kBits = 32 - 8 - 2;

// The weights of one pixel of the result, for pixels from `first` on.
struct Taps {
  std::size_t first;
  std::vector<std::int32_t> weights;
};

std::int32_t rounded(double weight) {
  const double scaled = weight * (1 << kBits);
  return static_cast<std::int32_t>(scaled < 0 ? scaled - 0.5 : scaled + 0.5);
}

Taps taps_at(std::uint32_t x, std::uint32_t in, std::uint32_t out) {
  const double scale = static_cast<double>(in) / out;
  const double reach = std::max(scale, 1.0);
  const double centre = (x + 0.5) * scale;
  const double inverse = 1.0 / reach;
  const auto first = static_cast<std::int64_t>(std::max(0.0, centre - reach + 0.5));
  const auto end = static_cast<std::int64_t>(std::min<double>(in, centre + reach + 0.5));
  std::vector<double> triangle;
  double sum = 0;
  for (std::int64_t i = 0; i < end - first; ++i) {
    const double distance = std::abs((static_cast<double>(i + first) - centre + 0.5) * inverse);
    triangle.push_back(distance < 1.0 ? 1.0 - distance : 0.0);
    sum += triangle.back();
  }
  Taps taps{static_cast<std::size_t>(first), {}};
  for (const double weight : triangle) taps.weights.push_back(rounded(weight / sum));
  return taps;
}

std::vector<Taps> all_taps(std::uint32_t in, std::uint32_t out) {
  std::vector<Taps> all;
  for (std::uint32_t x = 0; x < out; ++x) all.push_back(taps_at(x, in, out));
  return all;
}

// The weighted sum of codes that lie `step` bytes apart, as a code.
std::uint8_t weighted(const std::uint8_t* codes, std::size_t step, const std::vector<std::int32_t>& weights) {
  std::int32_t sum = 1 << (kBits - 1);
  for (const std::int32_t weight : weights) {
    sum += *codes * weight;
    codes += step;
  }
  return static_cast<std::uint8_t>(std::clamp(sum >> kBits, 0, 255));
}

void resize_rows(const std::uint8_t* in, std::size_t stride, std::uint32_t side, std::uint32_t size,
                 std::uint8_t* out) {
  const std::vector<Taps> columns = all_taps(side, size);
  for (std::uint32_t y = 0; y < side; ++y)
    for (const Taps& taps : columns)
      for (std::size_t c = 0; c < 3; ++c)
        *out++ = weighted(in + y * stride + 3 * taps.first + c, 3, taps.weights);
}

void resize_columns(const std::uint8_t* in, std::uint32_t side, std::uint32_t size, std::uint8_t* out) {
  const std::size_t row = std::size_t{3} * size;
  for (const Taps& taps : all_taps(side, size))
    for (std::size_t x = 0; x < row; ++x) *out++ = weighted(in + taps.first * row + x, row, taps.weights);
}

}  // namespace

void fit(const std::uint8_t* pixels, std::uint32_t width, std::uint32_t height, std::size_t stride,
         std::uint32_t size, std::uint8_t* out) {
  const std::uint32_t side = std::min(width, height);
  const std::uint8_t* square = pixels + (height - side) / 2 * stride + std::size_t{3} * ((width - side) / 2);
  const std::size_t row = std::size_t{3} * size;
  if (side == size) {
    for (std::size_t y = 0; y < size; ++y) std::copy_n(square + y * stride, row, out + y * row);
    return;
  }
  std::vector<std::uint8_t> narrow(row * side);
  resize_rows(square, stride, side, size, narrow.data());
  resize_columns(narrow.data(), side, size, out);
}

void normalise(const std::uint8_t* pixels, std::size_t n, std::size_t area, bool bgr, const Normalisation& by,
               float* images) {
  for (std::size_t picture = 0; picture < n; ++picture)
    for (std::size_t c = 0; c < 3; ++c) {
      const std::uint8_t* codes = pixels + picture * area * 3 + (bgr ? 2 - c : c);
      float* plane = images + (picture * 3 + c) * area;
      const float scale = by.scale[c], shift = by.shift[c];
      for (std::size_t i = 0; i < area; ++i) plane[i] = static_cast<float>(codes[3 * i]) * scale - shift;
    }
}

void exchange_red_and_blue(const std::uint8_t* bgr, std::size_t n, std::uint8_t* rgb) {
  for (std::size_t i = 0; i < 3 * n; i += 3) {
    rgb[i] = bgr[i + 2];
    rgb[i + 1] = bgr[i + 1];
    rgb[i + 2] = bgr[i];
  }
}

}  // namespace skf
