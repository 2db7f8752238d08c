// What of this CPU decides whether an artifact computes the right thing here.
#pragma once

namespace skf {

struct Cpu {
  const char* arch;            // as `uname -m` has it: "x86_64", "aarch64"
  bool adds_pairs_in_16_bits;  // INT8 kernels saturate here with full 8-bit weights: x86 without VNNI
};

Cpu this_cpu();

// Tests set another answer; nullptr goes back to this machine's own.
void set_cpu_for_tests(const Cpu* cpu);

}  // namespace skf
