// JSON as plain values. nlohmann's parser reads the text; its own tree is not used, because its destructor
// allocates, so that a program without memory would end in std::terminate.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace skf {

struct Json {
  enum class Kind { null, boolean, whole, number, text, list, object };

  Kind kind = Kind::null;
  bool boolean = false;
  std::uint64_t whole = 0;  // numbers without sign, point and exponent
  double number = 0;        // all numbers
  std::string text;
  std::vector<std::string> keys;  // of an object, in the order of the file
  std::vector<Json> elements;     // of a list, or the values of an object
};

// Fails with SKF_MALFORMED if the text is not JSON in UTF-8, nests deeper than 32, or has a key twice.
Json json_from(const std::string& text);

}  // namespace skf
