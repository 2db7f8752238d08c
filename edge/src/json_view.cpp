#include "json_view.hpp"

#include <algorithm>

#include "failure.hpp"

namespace skf {
namespace {

std::string described(const Json& value) {
  switch (value.kind) {
    case Json::Kind::null: return "null";
    case Json::Kind::boolean: return value.boolean ? "true" : "false";
    case Json::Kind::whole: return words(value.whole);
    case Json::Kind::number: return words(value.number);
    case Json::Kind::text: return words('"', value.text.substr(0, 80), '"');
    case Json::Kind::list: return words("a list of ", value.elements.size());
    case Json::Kind::object: return words("an object of ", value.elements.size());
  }
  return "a value";
}

}  // namespace

JsonView JsonView::operator[](const std::string& key) const {
  require_kind(Json::Kind::object, "an object");
  const std::string where = where_.empty() ? key : where_ + "." + key;
  const auto found = std::find(value_->keys.begin(), value_->keys.end(), key);
  if (found == value_->keys.end()) fail(SKF_MALFORMED, "bundle.json has no ", where);
  return {value_->elements[static_cast<std::size_t>(found - value_->keys.begin())], where};
}

const std::string& JsonView::text() const {
  require_kind(Json::Kind::text, "a text");
  return value_->text;
}

bool JsonView::boolean() const {
  require_kind(Json::Kind::boolean, "true or false");
  return value_->boolean;
}

double JsonView::number() const {
  if (value_->kind != Json::Kind::whole) require_kind(Json::Kind::number, "a number");
  return value_->number;
}

std::uint64_t JsonView::whole(std::uint64_t least, std::uint64_t most) const {
  if (value_->kind != Json::Kind::whole || value_->whole < least || value_->whole > most)
    refuse(least == most ? words(least) : words("a whole number from ", least, " to ", most));
  return value_->whole;
}

std::vector<JsonView> JsonView::elements() const {
  require_kind(Json::Kind::list, "a list");
  std::vector<JsonView> all;
  for (std::size_t i = 0; i < value_->elements.size(); ++i)
    all.emplace_back(value_->elements[i], words(where_, "[", i, "]"));
  return all;
}

std::vector<std::pair<std::string, JsonView>> JsonView::members() const {
  require_kind(Json::Kind::object, "an object");
  std::vector<std::pair<std::string, JsonView>> all;
  for (std::size_t i = 0; i < value_->keys.size(); ++i)
    all.emplace_back(value_->keys[i], JsonView(value_->elements[i], where_ + "." + value_->keys[i]));
  return all;
}

void JsonView::require(const char* text) const {
  if (value_->kind != Json::Kind::text || value_->text != text) refuse(words('"', text, '"'));
}

void JsonView::require_kind(Json::Kind kind, const char* wanted) const {
  if (value_->kind != kind) refuse(wanted);
}

void JsonView::refuse(const std::string& wanted) const {
  fail(SKF_MALFORMED, "bundle.json: ", where_.empty() ? "the whole" : where_, " is ", described(*value_),
       ", and this library wants ", wanted);
}

}  // namespace skf
