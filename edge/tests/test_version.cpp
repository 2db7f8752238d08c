#include <doctest/doctest.h>

#include "failure.hpp"
#include "version.hpp"

using skf::accepts_version;

TEST_CASE("The numbers of a version end before its words") {
  CHECK(skf::numbers_of("2026.4.1-22180-5ce1a8bd") == "2026.4.1");
  CHECK(skf::numbers_of("1.31.1") == "1.31.1");
  CHECK(skf::numbers_of("1.31.") == "1.31");
  CHECK(skf::numbers_of("unknown").empty());
}

TEST_CASE("A bundle says how much of a version has to be the same") {
  CHECK(accepts_version("any", "1.2.3", "9.9.9"));
  CHECK(accepts_version("same major", "1.2.3", "1.9.9"));
  CHECK_FALSE(accepts_version("same major", "1.2.3", "2.2.3"));
  CHECK_FALSE(accepts_version("same major", "1.2.3", "11.2.3"));
  CHECK(accepts_version("same major and minor", "1.2.3", "1.2.9"));
  CHECK_FALSE(accepts_version("same major and minor", "1.2.3", "1.20.3"));
  CHECK_FALSE(accepts_version("same major and minor", "1.2.3", "1.3.3"));
  CHECK(accepts_version("exact", "1.2.3", "1.2.3-build"));
  CHECK_FALSE(accepts_version("exact", "1.2.3", "1.2.30"));
}

TEST_CASE("An unknown word for versions is an error and not a yes") {
  CHECK_THROWS_AS(accepts_version("newer", "1.2.3", "1.2.3"), skf::Failure);
}
