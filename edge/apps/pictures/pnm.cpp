// Binary PGM (P5) and PPM (P6) with 255 for white; netpbm's pgm(5) and ppm(5).
#include <cctype>
#include <cstddef>
#include <cstdint>

#include "formats.hpp"

namespace pictures {
namespace {

// Reads the numbers of the header, between which stand white space and comments that end with their line.
class Header {
 public:
  explicit Header(Bytes file) : file_(file) {}

  std::uint64_t number() {
    skip();
    std::uint64_t value = 0;
    int digits = 0;
    for (; std::isdigit(peek()); ++at_, ++digits)
      value = value * 10 + static_cast<std::uint64_t>(peek() - '0');
    if (digits == 0 || digits > 9) throw Unreadable("its header is broken");
    return value;
  }

  // One white space ends the header; the pixels begin behind it.
  std::size_t end() {
    if (!std::isspace(peek())) throw Unreadable("its header is broken");
    return at_ + 1;
  }

 private:
  int peek() const { return at_ < file_.size ? file_.data[at_] : 0; }

  void skip() {
    while (std::isspace(peek()) || peek() == '#') {
      if (peek() == '#')
        while (at_ < file_.size && peek() != '\n') ++at_;
      ++at_;
    }
  }

  Bytes file_;
  std::size_t at_ = 2;
};

}  // namespace

Stored decode_pnm(Bytes file) {
  if (file.data[1] < '5') throw Unreadable("of the PNM formats only P5 and P6 are read");
  const std::size_t channels = file.data[1] == '6' ? 3 : 1;
  Header header(file);
  const std::uint64_t width = header.number();
  const std::uint64_t height = header.number();
  if (header.number() != 255) throw Unreadable("its value of white is not 255");
  insist_on_size(width, height);
  const std::size_t begin = header.end();
  const std::size_t pixels = width * height;
  if (begin > file.size || file.size - begin < pixels * channels) throw Unreadable("it is truncated");

  Stored stored;
  stored.picture = {static_cast<std::uint32_t>(width), static_cast<std::uint32_t>(height), {}};
  stored.picture.rgb.resize(pixels * 3);
  for (std::size_t i = 0; i < pixels * 3; ++i)
    stored.picture.rgb[i] = file.data[begin + (channels == 3 ? i : i / 3)];
  return stored;
}

}  // namespace pictures
