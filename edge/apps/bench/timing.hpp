// Timing of calls, alone and in interleaved pairs.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <functional>
#include <vector>

namespace bench {

using Call = std::function<void()>;

// The time of one call, in microseconds.
inline double microseconds(const Call& call) {
  const auto begin = std::chrono::steady_clock::now();
  call();
  const std::chrono::duration<double, std::micro> passed = std::chrono::steady_clock::now() - begin;
  return passed.count();
}

// A quantile of some times: 0.5 is the median.
inline double quantile(std::vector<double> times, double share) {
  const auto at = static_cast<std::ptrdiff_t>(share * static_cast<double>(times.size() - 1));
  std::nth_element(times.begin(), times.begin() + at, times.end());
  return times[static_cast<std::size_t>(at)];
}

// The times of a call that is repeated for some seconds, after a tenth of that as a warm-up.
inline std::vector<double> times_of(const Call& call, double seconds) {
  double spent = 0;
  while (spent < seconds * 1e5) spent += microseconds(call);
  std::vector<double> times;
  for (spent = 0; spent < seconds * 1e6; spent += times.back()) times.push_back(microseconds(call));
  return times;
}

// By how much the median of `second` exceeds that of `first`, in percent. The two take turns at being called
// first, so that a change of the CPU's clock or a busy neighbour hits both alike.
inline double overhead_percent(const Call& first, const Call& second, double seconds) {
  std::vector<double> firsts, seconds_of_second;
  bool turn = false;
  for (double spent = 0; spent < seconds * 1e6; turn = !turn) {
    if (turn) seconds_of_second.push_back(microseconds(second));
    firsts.push_back(microseconds(first));
    if (!turn) seconds_of_second.push_back(microseconds(second));
    spent += firsts.back() + seconds_of_second.back();
  }
  return 100 * (quantile(seconds_of_second, 0.5) / quantile(firsts, 0.5) - 1);
}

}  // namespace bench
