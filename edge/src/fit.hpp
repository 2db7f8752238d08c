// Pictures of any size to pictures of the network's size, and pixels to what the network takes. Both equal
// Python's bit for bit.
#pragma once

#include <cstddef>
#include <cstdint>

namespace skf {

// Crops the centre square, side = min(width, height), from column (width - side) / 2 and row (height - side)
// / 2, and resizes the square to size x size: rows first, rounded to 8 bits, then columns.
void fit(const std::uint8_t* pixels, std::uint32_t width, std::uint32_t height, std::size_t stride,
         std::uint32_t size, std::uint8_t* out);

// A value a channel, in the order red, green, blue.
struct Normalisation {
  float scale[3];
  float shift[3];
};

// `n` interleaved pictures of `area` pixels to planes of float(x) * scale - shift. `bgr` says that blue comes
// first.
void normalise(const std::uint8_t* pixels, std::size_t n, std::size_t area, bool bgr, const Normalisation& by,
               float* images);

// `n` pixels of 3 bytes with the first and the last byte exchanged.
void exchange_red_and_blue(const std::uint8_t* bgr, std::size_t n, std::uint8_t* rgb);

}  // namespace skf
