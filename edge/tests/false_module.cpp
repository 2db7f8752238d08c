// Modules that the library must not use. FALSE_MODULE says what is wrong with one.
#include <cstdio>

#include "backend.hpp"

#define NEWER 1
#define NAMED_ORT 2
#define REFUSING 3
#define WITHOUT_ENTRY 4

#if FALSE_MODULE != WITHOUT_ENTRY
const skf::Backend* skf_backend(skf::Text why) {
  static const skf::Backend backend{
      skf::kBackendAbi + (FALSE_MODULE == NEWER), "ort", "1.0", nullptr, nullptr, nullptr, nullptr};
  std::snprintf(why.data, why.size, "the runtime is too old");
  return FALSE_MODULE == REFUSING ? nullptr : &backend;
}
#endif
