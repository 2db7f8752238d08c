#include "message.hpp"

#include <cstddef>
#include <cstring>

namespace skf {
namespace {

// Long enough for a line about each of some ten artifacts; what is longer is cut.
thread_local char last[4096];

}  // namespace

void set_message(const char* text) noexcept {
  std::size_t bytes = std::strlen(text);
  if (bytes >= sizeof last) {
    bytes = sizeof last - 1;
    // The bytes 10xxxxxx continue a character of UTF-8, which is left out as a whole if it does not fit.
    while (bytes > 0 && (static_cast<unsigned char>(text[bytes]) & 0xc0) == 0x80) --bytes;
  }
  std::memcpy(last, text, bytes);
  last[bytes] = '\0';
}

const char* message() noexcept { return last; }

}  // namespace skf
