// How far logits are from the golden ones, as Python's graphs/signal_to_noise.py computes it.
#pragma once

#include <cstddef>
#include <cstdint>

namespace skf {

// 10 log10(sum y^2 / sum (y - z)^2) with y the golden values: infinity if none differs, minus infinity if all
// y are 0.
double snr_db(const float* golden, const float* values, std::size_t n);

// The first index of the greatest of `n` scores.
std::uint32_t argmax(const float* scores, std::size_t n);

}  // namespace skf
