// SHA-256 (FIPS 180-4), a piece at a time.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

namespace skf {

class Sha256 {
 public:
  void update(const void* data, std::size_t bytes);
  // The digest of everything so far in 64 lowercase hexadecimal digits; the object is used up.
  std::string hex();

 private:
  void compress(const std::uint8_t* block);

  std::array<std::uint32_t, 8> state_ = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                         0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  std::array<std::uint8_t, 64> block_{};
  std::uint64_t bytes_ = 0;
};

}  // namespace skf
