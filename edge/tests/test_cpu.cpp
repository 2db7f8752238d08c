#include <doctest/doctest.h>

#include <fstream>
#include <string>

#include "cpu.hpp"
#include "made_bundle.hpp"

namespace {

struct Pretend {
  explicit Pretend(const skf::Cpu& cpu) { skf::set_cpu_for_tests(&cpu); }
  ~Pretend() { skf::set_cpu_for_tests(nullptr); }
};

}  // namespace

#if defined(__x86_64__) && defined(__linux__)
TEST_CASE("CPUID finds VNNI exactly where Linux does") {
  std::string word, flags;
  for (std::ifstream file("/proc/cpuinfo"); file >> word;)
    if (word == "avx512_vnni" || word == "avx_vnni") flags += word;
  CHECK(skf::this_cpu().adds_pairs_in_16_bits == flags.empty());
  CHECK(std::string(skf::this_cpu().arch) == "x86_64");
}
#endif

TEST_CASE("Weights of the full 8 bits are refused on an x86 CPU without VNNI, and opened with it") {
  const made::StandIn ort;
  made::Bundle bundle;
  bundle.edit([](auto& json) {
    for (auto& artifact : json["artifacts"]) artifact["hardware"]["vnni"] = "required";
  });
  const skf::Cpu without{"x86_64", true}, with{"x86_64", false};
  {
    const Pretend here(without);
    CHECK(made::opened(bundle) == SKF_HARDWARE);
    made::says("VNNI");
  }
  const Pretend here(with);
  CHECK(made::opened(bundle) == SKF_OK);
}

TEST_CASE("Weights that cannot saturate need no VNNI") {
  const made::StandIn ort;
  const made::Bundle bundle;
  const skf::Cpu without{"x86_64", true};
  const Pretend here(without);
  CHECK(made::opened(bundle) == SKF_OK);
}

TEST_CASE("An artifact for another architecture is refused, and the message names both") {
  const made::StandIn ort;
  made::Bundle bundle;
  bundle.edit([](auto& json) {
    for (auto& artifact : json["artifacts"]) artifact["hardware"]["arch"] = {"x86_64", "riscv64"};
  });
  const skf::Cpu arm{"aarch64", false};
  const Pretend here(arm);
  CHECK(made::opened(bundle) == SKF_HARDWARE);
  made::says("x86_64, riscv64");
  made::says("aarch64");
}
