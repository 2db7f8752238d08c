// Answers for the instruction `cpuid` where tools/without_vnni.py has put `ud0` in its place.
//
// The answer is what the CPU itself says, except in leaf 7 (Intel SDM vol. 2, CPUID). There the bits of
// everything that multiplies 8-bit integers differently from AVX2 are cleared: all parts of AVX512 and AVX10,
// AVX-VNNI and AMX.

#define _GNU_SOURCE
#include <cpuid.h>
#include <dlfcn.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <ucontext.h>

#define BIT(n) (1u << (n))

enum { INSTRUCTION_LENGTH = 2 };
static const uint8_t UD0[INSTRUCTION_LENGTH] = {0x0f, 0xff};

static void hide(uint32_t leaf, uint32_t part, uint32_t *eax, uint32_t *ebx, uint32_t *ecx, uint32_t *edx) {
    if (leaf != 7) return;
    if (part == 0) {
        *ebx &= ~(BIT(16) | BIT(17) | BIT(21) | BIT(26) | BIT(27) | BIT(28) | BIT(30) | BIT(31));
        *ecx &= ~(BIT(1) | BIT(6) | BIT(11) | BIT(12) | BIT(14));
        *edx &= ~(BIT(2) | BIT(3) | BIT(8) | BIT(22) | BIT(23) | BIT(24) | BIT(25));
    } else if (part == 1) {
        // AVX-VNNI, AVX512-bf16, AMX-FP16, AVX-IFMA; AVX-VNNI-INT8 and INT16, AVX-NE-CONVERT, AMX-COMPLEX, AVX10.
        *eax &= ~(BIT(4) | BIT(5) | BIT(21) | BIT(23));
        *edx &= ~(BIT(4) | BIT(5) | BIT(8) | BIT(10) | BIT(19));
    }
}

static void answer(int number, siginfo_t *info, void *context) {
    (void)info;
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    if (memcmp((const void *)registers[REG_RIP], UD0, INSTRUCTION_LENGTH) != 0) {
        // The instruction is no ud0 of ours. It runs again without this handler, and the signal is fatal.
        signal(number, SIG_DFL);
        return;
    }
    uint32_t leaf = (uint32_t)registers[REG_RAX], part = (uint32_t)registers[REG_RCX];
    uint32_t eax, ebx, ecx, edx;
    __cpuid_count(leaf, part, eax, ebx, ecx, edx);
    hide(leaf, part, &eax, &ebx, &ecx, &edx);
    registers[REG_RAX] = eax;
    registers[REG_RBX] = ebx;
    registers[REG_RCX] = ecx;
    registers[REG_RDX] = edx;
    registers[REG_RIP] += INSTRUCTION_LENGTH;
}

static int real_sigaction(int number, const struct sigaction *action, struct sigaction *before) {
    int (*next)(int, const struct sigaction *, struct sigaction *) = dlsym(RTLD_NEXT, "sigaction");
    return next(number, action, before);
}

// Python's faulthandler, which pytest turns on, would take SIGILL over, so its handler is not installed.
int sigaction(int number, const struct sigaction *action, struct sigaction *before) {
    return real_sigaction(number, number == SIGILL ? NULL : action, before);
}

__attribute__((constructor)) static void listen(void) {
    struct sigaction action = {.sa_sigaction = answer, .sa_flags = SA_SIGINFO | SA_NODEFER};
    real_sigaction(SIGILL, &action, NULL);
}
