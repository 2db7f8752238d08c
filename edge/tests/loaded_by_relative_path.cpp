// A program loads the library by a relative path and changes its working directory before the first call. The
// modules still lie beside the library, and nowhere else.
//
//     loaded_by_relative_path lib/libskipfold.so
#include <dlfcn.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>

#include "skipfold/skipfold.h"

int main(int count, char** values) {
  char before[4096];
  void* library = count == 2 ? dlopen(values[1], RTLD_NOW | RTLD_LOCAL) : nullptr;
  if (!library || !getcwd(before, sizeof before) || chdir("/") != 0) return 2;
  const auto backends = reinterpret_cast<decltype(&skf_backends)>(dlsym(library, "skf_backends"));
  if (!backends) return 3;
  const char* text = backends();
  std::puts(text);
  for (const char* at = text; (at = std::strstr(at, "there is no ")) != nullptr; ++at)
    if (std::strncmp(at + std::strlen("there is no "), before, std::strlen(before)) != 0) return 1;
  return std::strlen(text) > 0 ? 0 : 4;
}
