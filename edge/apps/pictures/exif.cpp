// The one tag of EXIF that changes what a viewer shows: TIFF 6.0, tag 0x0112, in the first directory.
#include <cstddef>
#include <cstdint>

#include "formats.hpp"

namespace pictures {
namespace {

constexpr std::uint32_t kOrientation = 0x0112;
constexpr std::uint32_t kShort = 3;
constexpr std::size_t kEntry = 12;

// Reads integers of a TIFF block in the block's byte order; outside the block every byte is 0.
class Tiff {
 public:
  explicit Tiff(Bytes block) : block_(block), big_(block.begins_with("MM")) {}

  std::uint32_t integer(std::size_t at, std::size_t length) const {
    std::uint32_t value = 0;
    for (std::size_t i = 0; i < length; ++i) value = value << 8 | byte(big_ ? at + i : at + length - 1 - i);
    return value;
  }

 private:
  std::uint32_t byte(std::size_t at) const { return at < block_.size ? block_.data[at] : 0; }

  Bytes block_;
  bool big_;
};

}  // namespace

int exif_orientation(Bytes block) {
  if (!block.begins_with("II*") && !block.begins_with({"MM\0*", 4})) return 0;
  const Tiff tiff(block);
  const std::size_t directory = tiff.integer(4, 4);
  const std::size_t entries = tiff.integer(directory, 2);
  for (std::size_t i = 0; i < entries; ++i) {
    const std::size_t entry = directory + 2 + i * kEntry;
    if (entry + kEntry > block.size) return 0;
    if (tiff.integer(entry, 2) != kOrientation || tiff.integer(entry + 2, 2) != kShort) continue;
    const std::uint32_t value = tiff.integer(entry + 8, 2);
    return value >= 1 && value <= 8 ? static_cast<int>(value) : 0;
  }
  return 0;
}

int orientation_of(Bytes exif, bool told_otherwise) {
  const int found = exif_orientation(exif);
  if (found == 0 && told_otherwise)
    throw Unreadable("it tells its orientation in XMP or in a text and not in EXIF; save it upright");
  return found == 0 ? 1 : found;
}

}  // namespace pictures
