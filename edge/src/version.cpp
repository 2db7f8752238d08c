#include "version.hpp"

#include "failure.hpp"

namespace skf {
namespace {

// The first `count` numbers of a version: 2 of "2026.4.1" are "2026.4".
std::string first_numbers(const std::string& version, int count) {
  const std::string numbers = numbers_of(version);
  std::size_t end = 0;
  while (end < numbers.size() && (numbers[end] != '.' || --count > 0)) ++end;
  return numbers.substr(0, end);
}

}  // namespace

std::string numbers_of(const std::string& version) {
  std::string numbers = version.substr(0, version.find_first_not_of("0123456789."));
  while (!numbers.empty() && numbers.back() == '.') numbers.pop_back();
  return numbers;
}

bool accepts_version(const std::string& accepts, const std::string& verified, const std::string& found) {
  if (accepts == "any") return true;
  if (accepts == "same major") return first_numbers(verified, 1) == first_numbers(found, 1);
  if (accepts == "same major and minor") return first_numbers(verified, 2) == first_numbers(found, 2);
  if (accepts == "exact") return numbers_of(verified) == numbers_of(found);
  fail(SKF_MALFORMED, "bundle.json accepts the versions \"", accepts,
       "\", and this library knows any, same major, same major and minor, exact");
}

}  // namespace skf
