// JPEG through libjpeg-turbo, with the decoder's defaults, which are those of Pillow.
// jpeglib.h uses FILE and size_t without including what declares them, and jerror.h likewise jpeglib.h.
// clang-format off
#include <cstddef>
#include <cstdio>
#include <jpeglib.h>
#include <jerror.h>
// clang-format on

#include <csetjmp>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "formats.hpp"

namespace pictures {
namespace {

// A progressive file may ask for the whole picture to be worked over in each of any number of scans.
constexpr int kMostScans = 500;
constexpr int kMetadata = JPEG_APP0 + 1;
constexpr std::string_view kExif("Exif\0\0", 6);

// libjpeg over the bytes of a file. libjpeg reports an error by a jump, and `run` turns the jump into an
// exception.
class Reader {
 public:
  explicit Reader(Bytes file) {
    jpeg_.err = jpeg_std_error(&errors_);
    jpeg_.client_data = this;
    errors_.error_exit = fail;
    errors_.emit_message = listen;
    progress_.progress_monitor = watch;
    run([this, file](jpeg_decompress_struct* jpeg) {
      jpeg_create_decompress(jpeg);
      jpeg->progress = &progress_;
      jpeg_mem_src(jpeg, file.data, static_cast<unsigned long>(file.size));
    });
  }
  ~Reader() { jpeg_destroy_decompress(&jpeg_); }
  Reader(const Reader&) = delete;
  Reader& operator=(const Reader&) = delete;

  // Makes calls of libjpeg. The jump skips destructors, so `calls` must not own anything.
  template <class Calls>
  __attribute__((noinline)) void run(const Calls& calls) {
    if (setjmp(jump_)) throw Unreadable(std::string("it is no readable JPEG file (") + problem_ + ")");
    calls(&jpeg_);
  }

  const jpeg_decompress_struct& jpeg() const { return jpeg_; }

 private:
  static void fail(j_common_ptr jpeg) {
    Reader& self = *static_cast<Reader*>(jpeg->client_data);
    jpeg->err->format_message(jpeg, self.problem_);
    std::longjmp(self.jump_, 1);
  }

  // libjpeg only warns when the file ends too early, and invents the rest.
  static void listen(j_common_ptr jpeg, int level) {
    if (level < 0 && jpeg->err->msg_code == JWRN_JPEG_EOF) fail(jpeg);
  }

  static void watch(j_common_ptr jpeg) {
    if (reinterpret_cast<j_decompress_ptr>(jpeg)->input_scan_number <= kMostScans) return;
    Reader& self = *static_cast<Reader*>(jpeg->client_data);
    std::snprintf(self.problem_, sizeof self.problem_, "it has more than %d scans", kMostScans);
    std::longjmp(self.jump_, 1);
  }

  jpeg_decompress_struct jpeg_ = {};
  jpeg_error_mgr errors_ = {};
  jpeg_progress_mgr progress_ = {};
  std::jmp_buf jump_ = {};
  char problem_[JMSG_LENGTH_MAX] = {};
};

// a * b / 255 as Pillow rounds the product.
unsigned product(unsigned a, unsigned b) {
  const unsigned scaled = a * b + 128;
  return ((scaled >> 8) + scaled) >> 8;
}

// Four channels of a JPEG file are 255 minus ink, as Adobe's programs write them: red = (255 - C) * (255 - K)
// / 255.
void append_inks(const std::vector<std::uint8_t>& row, std::vector<std::uint8_t>& rgb) {
  for (std::size_t i = 0; i < row.size(); i += 4) {
    const unsigned light = row[i + 3];
    for (std::size_t c = 0; c < 3; ++c)
      rgb.push_back(static_cast<std::uint8_t>(light - product(255U - row[i + c], light)));
  }
}

void start(Reader& reader) {
  reader.run([](jpeg_decompress_struct* jpeg) {
    jpeg_save_markers(jpeg, kMetadata, 0xFFFF);
    jpeg_read_header(jpeg, TRUE);
  });
  const int channels = reader.jpeg().num_components;
  if (channels != 1 && channels != 3 && channels != 4)
    throw Unreadable("it has " + std::to_string(channels) + " channels");
  insist_on_size(reader.jpeg().image_width, reader.jpeg().image_height);
  reader.run([channels](jpeg_decompress_struct* jpeg) {
    jpeg->out_color_space = channels == 4 ? JCS_CMYK : JCS_RGB;
    jpeg_start_decompress(jpeg);
  });
}

// Memory grows with the rows that were really decoded, because a header may claim any size.
Picture rows_of(Reader& reader) {
  const jpeg_decompress_struct& jpeg = reader.jpeg();
  Picture picture{jpeg.output_width, jpeg.output_height, {}};
  std::vector<std::uint8_t> row(std::size_t{jpeg.output_width} *
                                static_cast<std::size_t>(jpeg.output_components));
  while (jpeg.output_scanline < jpeg.output_height) {
    JSAMPROW pointer = row.data();
    reader.run([&pointer](jpeg_decompress_struct* decoder) { jpeg_read_scanlines(decoder, &pointer, 1); });
    if (jpeg.output_components == 4)
      append_inks(row, picture.rgb);
    else
      picture.rgb.insert(picture.rgb.end(), row.begin(), row.end());
  }
  return picture;
}

int orientation_in(const Reader& reader) {
  Bytes exif;
  bool in_xmp = false;
  for (jpeg_saved_marker_ptr marker = reader.jpeg().marker_list; marker; marker = marker->next) {
    const Bytes block{marker->data, marker->data_length};
    const std::string_view text(reinterpret_cast<const char*>(block.data), block.size);
    if (block.begins_with(kExif) && !exif.data)
      exif = {block.data + kExif.size(), block.size - kExif.size()};
    else if (text.find("tiff:Orientation") != text.npos)
      in_xmp = true;
  }
  return orientation_of(exif, in_xmp);
}

}  // namespace

Stored decode_jpeg(Bytes file) {
  Reader reader(file);
  start(reader);
  Stored stored;
  stored.picture = rows_of(reader);
  stored.orientation = orientation_in(reader);
  return stored;
}

}  // namespace pictures
