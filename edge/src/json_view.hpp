// Values of bundle.json with the place where they stand, so that a message can say which value is wrong.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace skf {

// Every function fails with SKF_MALFORMED if the value is missing or has another type.
class JsonView {
 public:
  JsonView(const nlohmann::json& value, std::string where) : value_(&value), where_(std::move(where)) {}

  JsonView operator[](const char* key) const;
  bool is_null() const { return value_->is_null(); }

  std::string text() const;
  bool boolean() const;
  double number() const;
  // A whole number from `least` to `most`.
  std::uint64_t whole(std::uint64_t least, std::uint64_t most) const;
  // The elements of an array.
  std::vector<JsonView> elements() const;
  // The keys of an object, in their order.
  std::vector<std::string> keys() const;

  // Fails unless the value is this text.
  void require(const char* text) const;

  // Fails; `wanted` says what the value should be, for example "a whole number".
  [[noreturn]] void refuse(const std::string& wanted) const;

 private:
  const nlohmann::json* value_;
  std::string where_;
};

}  // namespace skf
