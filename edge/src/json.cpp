#include "json.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "failure.hpp"

namespace skf {
namespace {

constexpr std::size_t kDeepest = 32;

// Looks at the keys of an object in order, because comparing every key with every other one would take hours
// for the keys that fit into the largest bundle.json.
void require_different(const std::vector<std::string>& keys) {
  std::vector<const std::string*> ordered;
  for (const std::string& key : keys) ordered.push_back(&key);
  std::sort(ordered.begin(), ordered.end(), [](const auto* a, const auto* b) { return *a < *b; });
  const auto twice = std::adjacent_find(ordered.begin(), ordered.end(),
                                        [](const auto* a, const auto* b) { return *a == *b; });
  if (twice != ordered.end())
    fail(SKF_MALFORMED, "bundle.json has the key ", **twice, " twice in one object");
}

// Receives what the parser finds. `open_` holds the lists and objects that have begun, the whole file first.
class Builder : public nlohmann::json_sax<nlohmann::json> {
 public:
  Builder() : open_(1) {}

  Json& result() { return open_.front().elements.front(); }

  bool null() override { return add({}); }
  bool boolean(bool value) override {
    Json json;
    json.kind = Json::Kind::boolean, json.boolean = value;
    return add(std::move(json));
  }
  bool number_integer(number_integer_t value) override { return add_number(static_cast<double>(value)); }
  bool number_float(number_float_t value, const string_t&) override { return add_number(value); }
  bool number_unsigned(number_unsigned_t value) override {
    Json json;
    json.kind = Json::Kind::whole, json.whole = value, json.number = static_cast<double>(value);
    return add(std::move(json));
  }
  bool string(string_t& value) override {
    Json json;
    json.kind = Json::Kind::text, json.text = std::move(value);
    return add(std::move(json));
  }
  bool binary(binary_t&) override { return false; }

  bool start_object(std::size_t) override { return begin(Json::Kind::object); }
  bool start_array(std::size_t) override { return begin(Json::Kind::list); }
  bool end_object() override {
    require_different(open_.back().keys);
    return end();
  }
  bool end_array() override { return end(); }
  bool key(string_t& name) override {
    open_.back().keys.push_back(std::move(name));
    return true;
  }

  bool parse_error(std::size_t, const std::string&, const nlohmann::detail::exception&) override {
    return false;
  }

 private:
  bool add(Json value) {
    open_.back().elements.push_back(std::move(value));
    return true;
  }
  bool add_number(double value) {
    Json json;
    json.kind = Json::Kind::number, json.number = value;
    return add(std::move(json));
  }
  bool begin(Json::Kind kind) {
    if (open_.size() > kDeepest) fail(SKF_MALFORMED, "bundle.json nests deeper than ", kDeepest);
    open_.emplace_back().kind = kind;
    return true;
  }
  bool end() {
    Json closed = std::move(open_.back());
    open_.pop_back();
    return add(std::move(closed));
  }

  std::vector<Json> open_;
};

}  // namespace

Json json_from(const std::string& text) {
  Builder builder;
  if (!nlohmann::json::sax_parse(text, &builder)) fail(SKF_MALFORMED, "bundle.json is not JSON");
  return std::move(builder.result());
}

}  // namespace skf
