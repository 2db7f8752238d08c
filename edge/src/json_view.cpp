#include "json_view.hpp"

#include "failure.hpp"

namespace skf {

JsonView JsonView::operator[](const char* key) const {
  if (!value_->is_object()) refuse("an object");
  const std::string where = where_.empty() ? key : where_ + "." + key;
  const auto found = value_->find(key);
  if (found == value_->end()) fail(SKF_MALFORMED, "bundle.json has no ", where);
  return {*found, where};
}

std::string JsonView::text() const {
  if (!value_->is_string()) refuse("a text");
  return value_->get<std::string>();
}

bool JsonView::boolean() const {
  if (!value_->is_boolean()) refuse("true or false");
  return value_->get<bool>();
}

double JsonView::number() const {
  if (!value_->is_number()) refuse("a number");
  return value_->get<double>();
}

std::uint64_t JsonView::whole(std::uint64_t least, std::uint64_t most) const {
  const std::string wanted = words("a whole number from ", least, " to ", most);
  if (!value_->is_number_unsigned()) refuse(wanted);
  const auto number = value_->get<std::uint64_t>();
  if (number < least || number > most) refuse(wanted);
  return number;
}

std::vector<JsonView> JsonView::elements() const {
  if (!value_->is_array()) refuse("a list");
  std::vector<JsonView> all;
  for (std::size_t i = 0; i < value_->size(); ++i) all.emplace_back((*value_)[i], words(where_, "[", i, "]"));
  return all;
}

std::vector<std::string> JsonView::keys() const {
  if (!value_->is_object()) refuse("an object");
  std::vector<std::string> all;
  for (auto entry = value_->begin(); entry != value_->end(); ++entry) all.push_back(entry.key());
  return all;
}

void JsonView::require(const char* text) const {
  if (*value_ != text) refuse(words('"', text, '"'));
}

void JsonView::refuse(const std::string& wanted) const {
  // Texts that are not UTF-8 are replaced, because dump() would otherwise throw.
  std::string found = value_->dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  if (found.size() > 80) found = found.substr(0, 77) + "...";
  fail(SKF_MALFORMED, "bundle.json: ", where_.empty() ? "all of it" : where_, " is ", found, ", and this library wants ", wanted);
}

}  // namespace skf
