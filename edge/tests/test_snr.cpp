#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "snr.hpp"

TEST_CASE("The signal to noise is ten times the logarithm of the ratio of squares") {
  const float golden[] = {3, 4}, near[] = {3, 4.5f}, zero[] = {0, 0};
  CHECK(skf::snr_db(golden, near, 2) == doctest::Approx(20.0));  // 25 / 0.25
  CHECK(skf::snr_db(golden, golden, 2) == std::numeric_limits<double>::infinity());
  CHECK(skf::snr_db(zero, zero, 2) == std::numeric_limits<double>::infinity());
  CHECK(skf::snr_db(zero, golden, 2) == -std::numeric_limits<double>::infinity());
}

TEST_CASE("NaN among the values gives NaN, which no limit accepts") {
  const float golden[] = {3, 4}, bad[] = {3, std::nanf("")};
  CHECK(std::isnan(skf::snr_db(golden, bad, 2)));
}

TEST_CASE("The label is the first of the greatest scores") {
  const float scores[] = {1, 5, 5, -2};
  CHECK(skf::argmax(scores, 4) == 1);
}
