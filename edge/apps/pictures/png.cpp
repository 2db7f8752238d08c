// PNG through libpng, which checks the checksum of every chunk.
#include <png.h>

#include <csetjmp>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "formats.hpp"

namespace pictures {
namespace {

// The ratio of zlib's best compression. A file that claims to hold more pixels than that is refused before
// memory is reserved for them.
constexpr std::uint64_t kMostExpansion = 1032;

// libpng over the bytes of a file. libpng reports an error by a jump, and `run` turns the jump into an
// exception.
class Reader {
 public:
  explicit Reader(Bytes file) : rest_(file) {
    png_ = png_create_read_struct(PNG_LIBPNG_VER_STRING, this, fail, ignore);
    info_ = png_ ? png_create_info_struct(png_) : nullptr;
    if (!info_) {
      png_destroy_read_struct(&png_, nullptr, nullptr);
      throw Unreadable("libpng could not be started");
    }
    png_set_read_fn(png_, this, take);
    png_set_crc_action(png_, PNG_CRC_ERROR_QUIT, PNG_CRC_ERROR_QUIT);
    png_set_user_limits(png_, PNG_UINT_31_MAX, PNG_UINT_31_MAX);
  }
  ~Reader() { png_destroy_read_struct(&png_, &info_, nullptr); }
  Reader(const Reader&) = delete;
  Reader& operator=(const Reader&) = delete;

  // Makes calls of libpng. The jump skips destructors, so `calls` must not own anything.
  template <class Calls>
  __attribute__((noinline)) void run(const Calls& calls) {
    if (setjmp(png_jmpbuf(png_)))
      throw Unreadable(std::string("it is no readable PNG file (") + problem_ + ")");
    calls(png_, info_);
  }

  png_structp png() { return png_; }
  png_infop info() { return info_; }

 private:
  static Reader& self(void* pointer) { return *static_cast<Reader*>(pointer); }

  static void fail(png_structp png, png_const_charp problem) {
    std::strncpy(self(png_get_error_ptr(png)).problem_, problem, sizeof problem_ - 1);
    png_longjmp(png, 1);
  }

  static void ignore(png_structp, png_const_charp) {}

  static void take(png_structp png, png_bytep out, std::size_t length) {
    Bytes& rest = self(png_get_io_ptr(png)).rest_;
    if (length > rest.size) png_error(png, "the file is truncated");
    std::memcpy(out, rest.data, length);
    rest.data += length;
    rest.size -= length;
  }

  Bytes rest_;
  png_structp png_ = nullptr;
  png_infop info_ = nullptr;
  char problem_[128] = {};
};

struct Header {
  png_uint_32 width = 0;
  png_uint_32 height = 0;
  int depth = 0;
  int colour = 0;

  bool is_grey_of_16_bits() const { return depth == 16 && colour == PNG_COLOR_TYPE_GRAY; }
};

Header header_of(Reader& reader) {
  Header header;
  png_get_IHDR(reader.png(), reader.info(), &header.width, &header.height, &header.depth, &header.colour,
               nullptr, nullptr, nullptr);
  return header;
}

void insist_on_data(Reader& reader, const Header& header, std::uint64_t file_size) {
  insist_on_size(header.width, header.height);
  const std::uint64_t row = png_get_rowbytes(reader.png(), reader.info());
  if (row * header.height > file_size * kMostExpansion)
    throw Unreadable("it holds too little data for its size");
}

// Pillow compares a transparent colour of 2, 4 or 16 bits with pixels that it has scaled to 8 bits, and
// viewers do not.
void insist_on_clear_transparency(Reader& reader, const Header& header) {
  if (header.colour == PNG_COLOR_TYPE_PALETTE || !png_get_valid(reader.png(), reader.info(), PNG_INFO_tRNS))
    return;
  png_color_16p colour = nullptr;
  png_get_tRNS(reader.png(), reader.info(), nullptr, nullptr, &colour);
  const bool above_8_bits = (colour->red | colour->green | colour->blue | colour->gray) > 255;
  if ((header.depth != 8 && header.depth != 1) || above_8_bits)
    throw Unreadable(
        "it has a transparent colour that programs read differently; save it with an alpha channel");
}

// Asks libpng for RGBA with 8 bits, or for 16-bit grey as it is.
void set_transformations(png_structp png, const Header& header) {
  if (header.is_grey_of_16_bits()) return;
  png_set_strip_16(png);
  png_set_palette_to_rgb(png);
  png_set_expand_gray_1_2_4_to_8(png);
  png_set_tRNS_to_alpha(png);
  png_set_gray_to_rgb(png);
  png_set_add_alpha(png, 255, PNG_FILLER_AFTER);
}

std::vector<std::uint8_t> rows_of(Reader& reader, const Header& header) {
  reader.run([&header](png_structp png, png_infop info) {
    set_transformations(png, header);
    png_set_interlace_handling(png);
    png_read_update_info(png, info);
  });
  const std::size_t row = png_get_rowbytes(reader.png(), reader.info());
  std::vector<std::uint8_t> pixels(row * header.height);
  std::vector<png_bytep> rows(header.height);
  for (std::size_t y = 0; y < rows.size(); ++y) rows[y] = pixels.data() + y * row;
  reader.run([&rows](png_structp png, png_infop info) {
    png_read_image(png, rows.data());
    png_read_end(png, info);
  });
  return pixels;
}

// Big-endian 16-bit grey to RGB: 65535 = 257 * 255, and 128 rounds to the nearest integer.
void scale_grey(const std::vector<std::uint8_t>& from, std::vector<std::uint8_t>& rgb) {
  for (std::size_t i = 0; i < from.size() / 2; ++i) {
    const unsigned value = from[2 * i] * 256U + from[2 * i + 1];
    std::memset(&rgb[3 * i], static_cast<int>((value + 128) / 257), 3);
  }
}

// RGBA over white; 127 is half of 255, rounded down.
void put_over_white(const std::vector<std::uint8_t>& from, std::vector<std::uint8_t>& rgb) {
  for (std::size_t i = 0; i < from.size() / 4; ++i) {
    const unsigned alpha = from[4 * i + 3];
    for (std::size_t c = 0; c < 3; ++c)
      rgb[3 * i + c] = static_cast<std::uint8_t>((from[4 * i + c] * alpha + 255 * (255 - alpha) + 127) / 255);
  }
}

bool text_tells_orientation(Reader& reader) {
  png_textp texts = nullptr;
  const int count = png_get_text(reader.png(), reader.info(), &texts, nullptr);
  for (int i = 0; i < count; ++i) {
    const std::string_view key = texts[i].key;
    const std::string_view text = texts[i].text ? texts[i].text : "";
    if (key == "Raw profile type exif" || text.find("tiff:Orientation") != text.npos) return true;
  }
  return false;
}

Bytes exif_of(Reader& reader) {
  png_uint_32 size = 0;
  png_bytep block = nullptr;
  return png_get_eXIf_1(reader.png(), reader.info(), &size, &block) ? Bytes{block, size} : Bytes{};
}

}  // namespace

Stored decode_png(Bytes file) {
  Reader reader(file);
  reader.run([](png_structp png, png_infop info) { png_read_info(png, info); });
  const Header header = header_of(reader);
  insist_on_data(reader, header, file.size);
  insist_on_clear_transparency(reader, header);
  const std::vector<std::uint8_t> pixels = rows_of(reader, header);

  Stored stored;
  stored.picture = {header.width, header.height, {}};
  stored.picture.rgb.resize(std::size_t{header.width} * header.height * 3);
  (header.is_grey_of_16_bits() ? scale_grey : put_over_white)(pixels, stored.picture.rgb);
  stored.orientation = orientation_of(exif_of(reader), text_tells_orientation(reader));
  return stored;
}

}  // namespace pictures
