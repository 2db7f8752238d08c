// What the decoders of the formats share; see picture.hpp for what they read.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "picture.hpp"

namespace pictures {

// The bytes of a file, borrowed.
struct Bytes {
  const std::uint8_t* data = nullptr;
  std::size_t size = 0;

  bool begins_with(std::string_view text) const;
};

// A picture as it is stored, with the EXIF orientation (1 to 8) that a viewer applies to it.
struct Stored {
  Picture picture;
  int orientation = 1;
};

Stored decode_png(Bytes file);
Stored decode_jpeg(Bytes file);
Stored decode_pnm(Bytes file);

// The orientation in an EXIF block, which begins with a TIFF header; 0 if the block has none or is broken.
int exif_orientation(Bytes block);

// The orientation of a picture from its EXIF block and its other texts; refuses what only XMP tells.
int orientation_of(Bytes exif, bool told_otherwise);

// Throws Unreadable if the picture has no pixels or more than kMostPixels.
void insist_on_size(std::uint64_t width, std::uint64_t height);

}  // namespace pictures
