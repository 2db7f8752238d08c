// libFuzzer over the decoders of pictures.
#include <cstddef>
#include <cstdint>

#include "picture.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    pictures::decode(data, size);
  } catch (const pictures::Unreadable&) {
    return 0;
  }
  return 0;
}
