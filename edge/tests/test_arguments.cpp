// Arguments that no call can do anything with.
#include <doctest/doctest.h>

#include <cstring>
#include <limits>
#include <string>

#include "made_bundle.hpp"

namespace {

// skf_options of a later version, with one more member.
struct Later {
  skf_options now;
  std::uint64_t member;
};

// skf_info of a later version.
struct LaterInfo {
  skf_info now;
  std::uint64_t member;
};

skf_code open_with(const made::Bundle& bundle, const skf_options* how) {
  skf_classifier* self = nullptr;
  const skf_code code = skf_open(bundle.path().c_str(), how, &self);
  skf_close(self);
  return code;
}

}  // namespace

TEST_CASE("Null pointers are refused by every function") {
  const made::StandIn ort;
  const made::Bundle bundle;
  const made::Net net(bundle);
  const std::uint8_t pixels[made::kPicture] = {};
  const float images[made::kPicture] = {};
  std::uint8_t fitted[made::kPicture];
  static float out[made::kPicture];
  skf_classifier* other = nullptr;
  skf_info info = {};
  info.size = sizeof info;
  CHECK(skf_check(nullptr, nullptr) == SKF_ARGUMENT);
  CHECK(skf_open(nullptr, nullptr, &other) == SKF_ARGUMENT);
  CHECK(skf_open(bundle.path().c_str(), nullptr, nullptr) == SKF_ARGUMENT);
  CHECK(skf_clone(nullptr, &other) == SKF_ARGUMENT);
  CHECK(skf_clone(net, nullptr) == SKF_ARGUMENT);
  CHECK(skf_get_info(nullptr, &info) == SKF_ARGUMENT);
  CHECK(skf_get_info(net, nullptr) == SKF_ARGUMENT);
  CHECK(skf_class_name(nullptr, 0) == nullptr);
  CHECK(skf_class_name(net, 3) == nullptr);
  CHECK(skf_fit(nullptr, pixels, 1, 1, 3, fitted) == SKF_ARGUMENT);
  CHECK(skf_fit(net, nullptr, 1, 1, 3, fitted) == SKF_ARGUMENT);
  CHECK(skf_fit(net, pixels, 1, 1, 3, nullptr) == SKF_ARGUMENT);
  CHECK(skf_classify(nullptr, pixels, 1, nullptr, out) == SKF_ARGUMENT);
  CHECK(skf_classify(net, nullptr, 1, nullptr, out) == SKF_ARGUMENT);
  CHECK(skf_infer(nullptr, images, 1, out) == SKF_ARGUMENT);
  CHECK(skf_infer(net, nullptr, 1, out) == SKF_ARGUMENT);
  CHECK(skf_infer(net, images, 1, nullptr) == SKF_ARGUMENT);
  CHECK(skf_normalise(nullptr, pixels, 1, out) == SKF_ARGUMENT);
  CHECK(skf_normalise(net, nullptr, 1, out) == SKF_ARGUMENT);
  CHECK(skf_normalise(net, pixels, 1, nullptr) == SKF_ARGUMENT);
  CHECK(other == nullptr);
  skf_close(nullptr);
}

TEST_CASE("Sizes that make no sense are refused") {
  const made::StandIn ort;
  const made::Bundle bundle;
  const made::Net net(bundle);
  const std::uint8_t pixels[made::kPicture] = {};
  std::uint8_t fitted[made::kPicture];
  float out[3];
  constexpr std::size_t endless = std::numeric_limits<std::size_t>::max();
  CHECK(skf_fit(net, pixels, 0, 1, 3, fitted) == SKF_ARGUMENT);
  CHECK(skf_fit(net, pixels, 1, 0, 3, fitted) == SKF_ARGUMENT);
  CHECK(skf_fit(net, pixels, 2, 1, 5, fitted) == SKF_ARGUMENT);
  CHECK(skf_classify(net, pixels, 0, nullptr, out) == SKF_ARGUMENT);
  CHECK(skf_classify(net, pixels, endless, nullptr, out) == SKF_ARGUMENT);
  CHECK(skf_infer(net, reinterpret_cast<const float*>(pixels), 0, out) == SKF_ARGUMENT);
  // The bytes of so many pictures can be counted, and the bytes of their images cannot.
  CHECK(skf_normalise(net, pixels, endless / made::kPicture / 2, out) == SKF_ARGUMENT);
  CHECK(skf_normalise(net, pixels, endless, out) == SKF_ARGUMENT);
}

TEST_CASE("Options of another version are taken as far as they are known") {
  const made::StandIn ort;
  const made::Bundle bundle;
  skf_options how = made::options();
  CHECK(open_with(bundle, &how) == SKF_OK);
  for (const std::size_t size : {std::size_t{0}, sizeof how - 1}) {
    how.size = size;
    CHECK(open_with(bundle, &how) == SKF_ARGUMENT);
  }
  Later later = {made::options(), 0};
  later.now.size = sizeof later;
  CHECK(open_with(bundle, &later.now) == SKF_OK);
  later.member = 1;
  CHECK(open_with(bundle, &later.now) == SKF_ARGUMENT);
  made::says("does not know");
  how = made::options();
  how.size = 0xcdcdcdcdcdcdcdcd;  // never set
  CHECK(open_with(bundle, &how) == SKF_ARGUMENT);
  made::says("options->size");
  how = made::options();
  how.threads = 1025;
  CHECK(open_with(bundle, &how) == SKF_ARGUMENT);
  how = made::options();
  how.flags = 8;
  CHECK(open_with(bundle, &how) == SKF_ARGUMENT);
}

TEST_CASE("Info writes no further than the caller's size") {
  const made::StandIn ort;
  const made::Bundle bundle;
  const made::Net net(bundle);
  skf_info info;
  std::memset(&info, 0x55, sizeof info);
  info.size = offsetof(skf_info, classes);
  CHECK(skf_get_info(net, &info) == SKF_OK);
  CHECK(info.size == offsetof(skf_info, classes));
  CHECK(info.width == 32);
  CHECK(info.classes == 0x55555555u);
  info.size = 0;
  CHECK(skf_get_info(net, &info) == SKF_ARGUMENT);
  LaterInfo later;
  std::memset(&later, 0x55, sizeof later);
  later.now.size = sizeof later;
  CHECK(skf_get_info(net, &later.now) == SKF_OK);
  CHECK(later.now.size == sizeof later);
  CHECK(later.now.takes_pixels == 0);
  CHECK(later.member == 0x5555555555555555u);
}

TEST_CASE("Codes have their names, and others have none") {
  CHECK(std::string(skf_code_name(SKF_OK)) == "SKF_OK");
  CHECK(std::string(skf_code_name(SKF_TOLERANCE)) == "SKF_TOLERANCE");
  CHECK(std::string(skf_code_name(SKF_INTERNAL)) == "SKF_INTERNAL");
  CHECK(std::string(skf_code_name(15)) == "unknown code");
  CHECK(std::string(skf_code_name(-1)) == "unknown code");
  CHECK(skf_abi() == SKF_ABI);
}
