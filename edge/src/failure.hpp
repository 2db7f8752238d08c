// How the library fails inside: a thrown Failure, which the ABI turns into a code and a message.
#pragma once

#include <locale>
#include <sstream>
#include <stdexcept>
#include <string>

#include "skipfold/skipfold.h"

namespace skf {

struct Failure : std::runtime_error {
  Failure(skf_code code_, const std::string& text) : std::runtime_error(text), code(code_) {}
  skf_code code;
};

// The parts, written one after the other: words("batch ", 8) is "batch 8".
template <class... Parts>
std::string words(const Parts&... parts) {
  std::ostringstream text;
  text.imbue(std::locale::classic());  // A program in German would write 1.234,5 otherwise.
  (text << ... << parts);
  return text.str();
}

template <class... Parts>
[[noreturn]] void fail(skf_code code, const Parts&... parts) {
  throw Failure(code, words(parts...));
}

// Fails with SKF_ARGUMENT unless `holds`.
inline void require_argument(bool holds, const char* otherwise) {
  if (!holds) throw Failure(SKF_ARGUMENT, otherwise);
}

}  // namespace skf
