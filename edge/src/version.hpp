// Which version of a runtime an artifact may run in.
#pragma once

#include <string>

namespace skf {

// The leading numbers of a version: "2026.4.1-22180-abc" has "2026.4.1".
std::string numbers_of(const std::string& version);

// Whether `found` will do where the bundle was verified with `verified`.
//
// accepts  "any", "same major", "same major and minor" or "exact"; anything else fails with SKF_MALFORMED
bool accepts_version(const std::string& accepts, const std::string& verified, const std::string& found);

}  // namespace skf
