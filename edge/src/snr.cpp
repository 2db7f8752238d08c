#include "snr.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace skf {

double snr_db(const float* golden, const float* values, std::size_t n) {
  double signal = 0, noise = 0;
  for (std::size_t i = 0; i < n; ++i) {
    const double y = golden[i], error = y - values[i];
    signal += y * y;
    noise += error * error;
  }
  if (noise == 0) return std::numeric_limits<double>::infinity();
  return 10 * std::log10(signal / noise);
}

std::uint32_t argmax(const float* scores, std::size_t n) {
  return static_cast<std::uint32_t>(std::max_element(scores, scores + n) - scores);
}

}  // namespace skf
