// libFuzzer over the reading of bundle.json.
#include <cstddef>
#include <cstdint>
#include <string>

#include "failure.hpp"
#include "manifest.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    skf::manifest_from(std::string(reinterpret_cast<const char*>(data), size));
  } catch (const skf::Failure&) {
    return 0;
  }
  return 0;
}
