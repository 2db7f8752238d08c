// Values of bundle.json with the place where they stand, so that a message can say which value is wrong.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "json.hpp"

namespace skf {

// Every function fails with SKF_MALFORMED if the value is missing or has another type.
class JsonView {
 public:
  JsonView(const Json& value, std::string where) : value_(&value), where_(std::move(where)) {}

  JsonView operator[](const std::string& key) const;
  bool is_null() const { return value_->kind == Json::Kind::null; }

  const std::string& text() const;
  bool boolean() const;
  double number() const;
  // A whole number from `least` to `most`.
  std::uint64_t whole(std::uint64_t least, std::uint64_t most) const;
  std::vector<JsonView> elements() const;
  // The keys of an object with their values, in the order of the file.
  std::vector<std::pair<std::string, JsonView>> members() const;

  // Fails unless the value is this text.
  void require(const char* text) const;

  // Fails; `wanted` says what the value should be, for example "a whole number".
  [[noreturn]] void refuse(const std::string& wanted) const;

 private:
  void require_kind(Json::Kind kind, const char* wanted) const;

  const Json* value_;
  std::string where_;
};

}  // namespace skf
