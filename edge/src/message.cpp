#include "message.hpp"

#include <cstdio>

namespace skf {
namespace {

// Long enough for a line about each of some ten artifacts; what is longer is cut.
thread_local char last[4096];

}  // namespace

void set_message(const char* text) noexcept { std::snprintf(last, sizeof last, "%s", text); }

const char* message() noexcept { return last; }

}  // namespace skf
