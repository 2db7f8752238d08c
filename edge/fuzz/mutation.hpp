// Mutations that depend on a seed only, so that a mutant that fails can be made again from its number.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

namespace mutants {

// std::uniform_int_distribution gives other numbers in every standard library; this gives the same
// everywhere.
class Random {
 public:
  explicit Random(std::uint64_t seed) : engine_(seed) {}

  // An integer below `end`, which is at least 1.
  std::size_t below(std::size_t end) { return static_cast<std::size_t>(engine_() % end); }

  template <class T>
  const T& one_of(const std::vector<T>& choices) {
    return choices[below(choices.size())];
  }

 private:
  std::mt19937_64 engine_;
};

// A few random changes of bytes: some are flipped, removed, repeated, replaced by a text that hurts parsers,
// or cut off.
inline std::string mutated(std::string text, Random& random) {
  static const std::vector<std::string> hurtful = {"0",
                                                   "-1",
                                                   "4294967296",
                                                   "18446744073709551616",
                                                   "1e999",
                                                   "-0.0",
                                                   "NaN",
                                                   "null",
                                                   "[]",
                                                   "{}",
                                                   "\"\"",
                                                   "\\u0000",
                                                   "../",
                                                   "\xff",
                                                   std::string(1, '\0'),
                                                   std::string(4, '\xff'),
                                                   std::string("\0\0\0\x80", 4),
                                                   std::string(300, '[')};
  for (std::size_t change = 1 + random.below(4); change > 0 && !text.empty(); --change) {
    const std::size_t at = random.below(text.size());
    const std::size_t length = 1 + random.below(std::min<std::size_t>(text.size() - at, 16));
    switch (random.below(6)) {
      case 0: text[at] = static_cast<char>(text[at] ^ (1 << random.below(8))); break;
      case 1: text.erase(at, length); break;
      case 2: text.insert(at, text.substr(at, length)); break;
      case 3: text.replace(at, length, random.one_of(hurtful)); break;
      case 4: text[at] = static_cast<char>(random.below(256)); break;
      default:
        // Rarely, because a file that is cut off is refused early.
        if (random.below(8) == 0) text.resize(at);
    }
  }
  return text;
}

}  // namespace mutants
