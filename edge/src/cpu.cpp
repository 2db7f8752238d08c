// VNNI (AVX512-VNNI or AVX-VNNI) adds four products in 32 bits; older x86 kernels add two in 16 bits, which
// overflow where weights use the full 8 bits: 127 * 255 * 2 = 64770 > 32767. The bits are those of the Intel
// manual, volume 2, CPUID.
#include "cpu.hpp"

#include <atomic>
#include <cstdint>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace skf {
namespace {

std::atomic<const Cpu*> pretended{nullptr};

#if defined(__x86_64__)
// Which registers the operating system saves: XCR0, bits 1 and 2 for AVX, 5 to 7 for AVX-512.
std::uint64_t saved_registers() {
  std::uint32_t low = 0, high = 0;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return std::uint64_t{high} << 32 | low;
}

bool has_vnni() {
  std::uint32_t a = 0, b = 0, c = 0, d = 0;
  constexpr std::uint32_t osxsave = 1u << 27, avx512_vnni = 1u << 11, avx_vnni = 1u << 4;
  constexpr std::uint64_t avx_state = 0x06, avx512_state = 0xe6;
  if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & osxsave)) return false;
  const std::uint64_t saved = saved_registers();
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
  if ((c & avx512_vnni) && (saved & avx512_state) == avx512_state) return true;
  return __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & avx_vnni) && (saved & avx_state) == avx_state;
}

Cpu probed() { return {"x86_64", !has_vnni()}; }
#elif defined(__aarch64__)
Cpu probed() { return {"aarch64", false}; }
#else
Cpu probed() { return {"another architecture", false}; }
#endif

}  // namespace

Cpu this_cpu() {
  const Cpu* other = pretended.load();
  return other ? *other : probed();
}

void set_cpu_for_tests(const Cpu* cpu) { pretended.store(cpu); }

}  // namespace skf
