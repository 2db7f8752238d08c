// Scores to probabilities, the likeliest first.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <string>
#include <string_view>
#include <vector>

#include "skipfold/skipfold.hpp"

namespace classify {

struct Share {
  std::string name;
  double value;
};

// Softmax in float64 and without overflow; the sum is 1.
inline std::vector<double> softmax(const std::vector<float>& logits) {
  const double greatest = *std::max_element(logits.begin(), logits.end());
  std::vector<double> powers(logits.size());
  std::transform(logits.begin(), logits.end(), powers.begin(),
                 [greatest](float logit) { return std::exp(logit - greatest); });
  const double sum = std::accumulate(powers.begin(), powers.end(), 0.0);
  for (double& power : powers) power /= sum;
  return powers;
}

// The `top` likeliest classes of one picture; among equals the first class comes first.
inline std::vector<Share> likeliest(const skipfold::Classifier& net, const std::vector<float>& scores,
                                    std::size_t top) {
  const bool are_logits = std::string_view(net.info().values) == "logits";
  const std::vector<double> shares =
      are_logits ? softmax(scores) : std::vector<double>(scores.begin(), scores.end());
  std::vector<std::uint32_t> order(shares.size());
  std::iota(order.begin(), order.end(), 0U);
  std::stable_sort(order.begin(), order.end(), [&shares](auto a, auto b) { return shares[a] > shares[b]; });
  order.resize(std::min(top, order.size()));
  std::vector<Share> best;
  for (const std::uint32_t label : order) best.push_back({net.name(label), shares[label]});
  return best;
}

}  // namespace classify
