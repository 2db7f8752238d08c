// Every allocation of a call fails once: the call says SKF_MEMORY, or does without, and nothing leaks or
// breaks.
#include <doctest/doctest.h>

#include <cstdlib>
#include <new>
#include <string>

#include "made_bundle.hpp"

namespace {

// Allocations of this thread until one fails; negative: none fails.
thread_local long left = -1;

void* allocated(std::size_t bytes) {
  if (left == 0) {
    left = -1;
    throw std::bad_alloc();
  }
  if (left > 0) --left;
  void* memory = std::malloc(bytes ? bytes : 1);
  if (!memory) throw std::bad_alloc();
  return memory;
}

// Runs `call` with its first, second, ... allocation failing until none fails any more. Returns how many of
// the calls said SKF_MEMORY.
template <class Call>
int failures_of(Call&& call) {
  int failures = 0;
  for (long allocation = 0;; ++allocation) {
    left = allocation;
    const skf_code code = call();
    const bool failed = left < 0;
    left = -1;
    if (!failed) {
      CHECK(code == SKF_OK);
      return failures;
    }
    CHECK((code == SKF_MEMORY || code == SKF_OK));
    failures += code == SKF_MEMORY;
  }
}

}  // namespace

void* operator new(std::size_t bytes) { return allocated(bytes); }
void* operator new[](std::size_t bytes) { return allocated(bytes); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::size_t) noexcept { std::free(memory); }

TEST_CASE("Checking, opening, cloning and fitting survive a missing piece of memory anywhere") {
  const made::StandIn ort;
  const made::Bundle bundle;
  const std::string path = bundle.path();
  CHECK(failures_of([&] { return skf_check(path.c_str(), nullptr); }) > 100);
  skf_classifier* net = nullptr;
  CHECK(failures_of([&] {
          skf_close(net);
          net = nullptr;
          return skf_open(path.c_str(), nullptr, &net);
        }) > 200);
  const made::Net closes(net);
  REQUIRE(net != nullptr);
  skf_classifier* clone = nullptr;
  CHECK(failures_of([&] { return skf_clone(net, &clone); }) >= 2);
  skf_close(clone);
  const std::vector<std::uint8_t> pixels(100 * 100 * 3);
  std::vector<std::uint8_t> fitted(made::kPicture);
  CHECK(failures_of([&] { return skf_fit(net, pixels.data(), 100, 100, 300, fitted.data()); }) > 10);
  CHECK(made::behaviour.open_sessions == 1);
  left = 0;
  CHECK(std::string(skf_backends()).empty());
  left = -1;
}

TEST_CASE("Classifying allocates nothing") {
  const made::StandIn ort;
  const made::Bundle bundle;
  const made::Net net(bundle);
  const auto pixels = made::pictures(3);
  std::vector<float> images(3 * made::kPicture), scores(9);
  made::behaviour.during_run = [] {};  // the list of runs allocates
  std::uint32_t labels[3];
  left = 0;
  const skf_code classified = skf_classify(net, pixels.data(), 3, labels, scores.data());
  const skf_code normalised = skf_normalise(net, pixels.data(), 3, images.data());
  left = -1;
  CHECK(classified == SKF_OK);
  CHECK(normalised == SKF_OK);
}
