// Pictures as files to 8-bit RGB, as skipfold's Python part decodes them (data/colour.py), or refused with a
// sentence.
//
// PNG: all colour types and depths, interlaced or not. A transparent colour with 2, 4 or 16 bits is refused.
// JPEG: grey, colour and CMYK, baseline or progressive. 12 bits a channel are refused.
// PNM: binary grey (P5) and colour (P6) with 255 for white. Text and bitmaps (P1 to P4) are refused.
//
// The EXIF orientation is applied. A picture that tells its orientation in another way (XMP) is refused.
// Transparency is composited over white: (c * a + 255 * (255 - a)) / 255, rounded to the nearest integer.
// 16-bit grey is scaled by 255 / 65535 and rounded; of 16-bit colours the high byte is taken. Colour profiles
// are ignored.
#pragma once

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

namespace pictures {

// 8-bit RGB, upright, rows without gaps.
struct Picture {
  std::uint32_t width = 0;
  std::uint32_t height = 0;
  std::vector<std::uint8_t> rgb;
};

// A picture cannot be read; what() is the reason, which does not name the file.
class Unreadable : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// Pillow warns of a decompression bomb above this number of pixels. A larger picture is refused here.
inline constexpr std::uint64_t kMostPixels = 89'478'485;

// Decodes the bytes of a file; throws Unreadable.
Picture decode(const std::uint8_t* bytes, std::size_t size);

// Reads and decodes a file; throws Unreadable.
Picture read(const std::string& path);

}  // namespace pictures
