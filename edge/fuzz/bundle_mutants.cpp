// 10,000 mutated bundles through skf_check, skf_open and skf_classify. Nothing may crash, leak or be taken
// for a bug of the library, and a file that differs from its hash may never be accepted. The runtime is the
// stand-in of the unit tests.
#include <doctest/doctest.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "../tests/made_bundle.hpp"
#include "mutation.hpp"
#include "sha256.hpp"

namespace {

using mutants::Random;
using nlohmann::json;

constexpr std::uint64_t kCount = 10'000;

// What has been changed about a bundle.
enum class Kind { text, value, content, listed_content, stranger };

// A folder whose files are put back after each mutant.
class Subject {
 public:
  Subject() {
    for (const auto& [file, entry] : bundle_.json()["files"].items()) originals_[file] = bundle_.read(file);
    originals_["bundle.json"] = bundle_.read("bundle.json");
  }

  const made::Bundle& bundle() const { return bundle_; }

  Kind mutate(Random& random) {
    const std::size_t dice = random.below(100);
    if (dice < 40) return mutate_text(random);
    if (dice < 75) return mutate_value(random);
    if (dice < 85) return mutate_content(random, Kind::content);
    if (dice < 95) return mutate_content(random, Kind::listed_content);
    return add_stranger(random);
  }

  void restore() {
    for (const std::string& file : changed_) bundle_.write(file, originals_.at(file));
    if (!stranger_.empty()) std::filesystem::remove_all(bundle_.at(stranger_));
    changed_.clear();
    stranger_.clear();
  }

 private:
  void change(const std::string& file, const std::string& content) {
    bundle_.write(file, content);
    changed_.push_back(file);
  }

  Kind mutate_text(Random& random) {
    change("bundle.json", mutants::mutated(originals_["bundle.json"], random));
    return Kind::text;
  }

  // Replaces, renames or removes a random value; the text stays JSON.
  Kind mutate_value(Random& random) {
    static const std::vector<json> values = {nullptr,
                                             true,
                                             0,
                                             -1,
                                             1,
                                             31,
                                             33,
                                             4294967295U,
                                             1e308,
                                             0.5,
                                             "",
                                             "..",
                                             "/etc/passwd",
                                             "images",
                                             "exact",
                                             "uint8",
                                             "NHWC",
                                             "required",
                                             "probabilities",
                                             "openvino",
                                             "1.30.0",
                                             "2.0.0",
                                             "riscv64",
                                             json::array(),
                                             json::object(),
                                             json::array({1, 2, 3}),
                                             json::array({"riscv64"}),
                                             json::array({"batch", 3, 32, 32}),
                                             std::string(5000, 'x'),
                                             "golden/fitted.u8",
                                             "models/net.onnx"};
    json document = bundle_.json();
    const json flat = document.flatten();
    auto place = flat.begin();
    std::advance(place, static_cast<std::ptrdiff_t>(random.below(flat.size())));
    json::json_pointer pointer(place.key());
    // Sometimes a whole branch.
    while (!pointer.empty() && random.below(4) == 0) pointer.pop_back();
    if (pointer.empty() || random.below(4) != 0)
      document[pointer] = random.one_of(values);
    else
      document = without(document, pointer);
    change("bundle.json", document.dump());
    return Kind::value;
  }

  static json without(json document, const json::json_pointer& pointer) {
    json& parent = document[pointer.parent_pointer()];
    if (parent.is_array())
      parent.erase(static_cast<std::size_t>(std::stoul(pointer.back())));
    else
      parent.erase(pointer.back());
    return document;
  }

  Kind mutate_content(Random& random, Kind kind) {
    std::vector<std::string> names;
    for (const auto& [file, content] : originals_)
      if (file != "bundle.json") names.push_back(file);
    const std::string& file = random.one_of(names);
    const std::string content = mutants::mutated(originals_[file], random);
    change(file, content);
    if (content == originals_[file]) return Kind::value;
    if (kind == Kind::listed_content) list(file, content);
    return kind;
  }

  void list(const std::string& file, const std::string& content) {
    json document = bundle_.json();
    skf::Sha256 hash;
    hash.update(content.data(), content.size());
    document["files"][file] = {{"sha256", hash.hex()}, {"bytes", content.size()}};
    change("bundle.json", document.dump());
  }

  Kind add_stranger(Random& random) {
    stranger_ = random.one_of<std::string>({"stranger", "golden/stranger", "models/.hidden", "golden/\xff"});
    const auto path = bundle_.at(stranger_);
    if (random.below(2) == 0)
      std::filesystem::create_symlink("/etc/hostname", path);
    else
      std::ofstream(path) << "not listed";
    return Kind::stranger;
  }

  made::Bundle bundle_;
  std::map<std::string, std::string> originals_;
  std::vector<std::string> changed_;
  std::string stranger_;
};

// Opens one artifact, or any that runs if it is NULL, classifies if that succeeds, and returns the code of
// skf_open.
skf_code opened_and_used(const std::string& path, const char* artifact) {
  skf_options options = made::options();
  options.artifact = artifact;
  options.flags = SKF_ALLOW_UNVERIFIED;
  options.max_batch = 2;
  skf_classifier* net = nullptr;
  const skf_code code = skf_open(path.c_str(), &options, &net);
  CHECK((net != nullptr) == (code == SKF_OK));
  if (code == SKF_OK) {
    const std::vector<std::uint8_t> pixels = made::pictures(3);
    std::uint32_t labels[3];
    CHECK(skf_classify(net, pixels.data(), 3, labels, nullptr) == SKF_OK);
    CHECK(skf_class_name(net, labels[0]) != nullptr);
  }
  skf_close(net);
  return code;
}

void require_sense(Kind kind, skf_code checked, skf_code opened) {
  for (const skf_code code : {checked, opened}) {
    CHECK(code >= SKF_OK);
    CHECK(code < SKF_INTERNAL);
  }
  CHECK((checked != SKF_OK ? opened != SKF_OK : true));
  if (kind == Kind::content || kind == Kind::stranger) CHECK(checked == SKF_ALTERED);
  if (opened != SKF_OK) CHECK(std::string(skf_message()) != "");
}

}  // namespace

TEST_CASE("10,000 mutated bundles") {
  const made::StandIn stand_in;
  Subject subject;
  REQUIRE(opened_and_used(subject.bundle().path(), nullptr) == SKF_OK);
  std::map<skf_code, int> codes;
  for (std::uint64_t number = 0; number < kCount; ++number) {
    Random random(number);
    const Kind kind = subject.mutate(random);
    CAPTURE(number);
    const skf_code checked = skf_check(subject.bundle().path().c_str(), nullptr);
    const skf_code opened = opened_and_used(subject.bundle().path(), number % 2 ? "floats" : nullptr);
    require_sense(kind, checked, opened);
    ++codes[opened];
    subject.restore();
  }
  // The mutants have to get past the parser, or they test nothing else.
  for (const skf_code code :
       {SKF_OK, SKF_NOT_FOUND, SKF_MALFORMED, SKF_ALTERED, SKF_VERSION, SKF_TOLERANCE}) {
    CAPTURE(std::string(skf_code_name(code)));
    CHECK(codes[code] >= 1);
  }
  for (const auto& [code, count] : codes) MESSAGE(std::string(skf_code_name(code)) << ": " << count);
}
