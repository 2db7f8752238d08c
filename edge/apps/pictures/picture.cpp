#include "picture.hpp"

#include <cstring>
#include <fstream>
#include <iterator>
#include <utility>

#include "formats.hpp"

namespace pictures {
namespace {

// EXIF 2.32, tag 0x0112: the stored pixel that is shown at column x and row y.
//   2 mirrored  3 turned by 180 degrees  4 upside down  5 to 8 the same with rows and columns exchanged
Picture upright(Stored stored) {
  const int orientation = stored.orientation;
  if (orientation == 1) return std::move(stored.picture);
  const Picture& from = stored.picture;
  const bool exchange = orientation >= 5;
  const bool mirror_x = orientation == 2 || orientation == 3 || orientation >= 7;
  const bool mirror_y = orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
  Picture to;
  to.width = exchange ? from.height : from.width;
  to.height = exchange ? from.width : from.height;
  to.rgb.resize(from.rgb.size());
  std::uint8_t* pixel = to.rgb.data();
  for (std::uint32_t row = 0; row < to.height; ++row) {
    for (std::uint32_t column = 0; column < to.width; ++column, pixel += 3) {
      std::uint32_t x = exchange ? row : column;
      std::uint32_t y = exchange ? column : row;
      if (mirror_x) x = from.width - 1 - x;
      if (mirror_y) y = from.height - 1 - y;
      std::memcpy(pixel, &from.rgb[(std::size_t{y} * from.width + x) * 3], 3);
    }
  }
  return to;
}

Stored decode_any(Bytes file) {
  if (file.begins_with("\x89PNG\r\n\x1a\n")) return decode_png(file);
  if (file.begins_with("\xff\xd8\xff")) return decode_jpeg(file);
  if (file.size >= 2 && file.data[0] == 'P' && file.data[1] >= '1' && file.data[1] <= '6')
    return decode_pnm(file);
  throw Unreadable("it is not a PNG, JPEG or PNM file");
}

}  // namespace

bool Bytes::begins_with(std::string_view text) const {
  return size >= text.size() && std::memcmp(data, text.data(), text.size()) == 0;
}

void insist_on_size(std::uint64_t width, std::uint64_t height) {
  if (width == 0 || height == 0) throw Unreadable("it has no pixels");
  if (width > kMostPixels / height) throw Unreadable("it has more than 89,478,485 pixels");
}

Picture decode(const std::uint8_t* bytes, std::size_t size) { return upright(decode_any({bytes, size})); }

Picture read(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw Unreadable("the file cannot be opened");
  const std::vector<char> content{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  if (file.bad()) throw Unreadable("the file cannot be read");
  return decode(reinterpret_cast<const std::uint8_t*>(content.data()), content.size());
}

}  // namespace pictures
