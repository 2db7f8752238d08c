// The back ends, each a shared library of its own beside this one. A module is loaded when a bundle first
// needs it, so that a device needs only the runtimes that it uses, and stays loaded, because runtimes leave
// threads behind.
#pragma once

#include <string>
#include <vector>

#include "backend.hpp"

namespace skf {

// A back end, or why there is none.
struct Loaded {
  const Backend* backend;
  std::string problem;
};

// The runtimes that this library knows, as bundle.json names them.
const std::vector<std::string>& known_backends();

// Loads the module of a runtime, which lies beside this library, once. Any thread may call this.
Loaded load_backend(const std::string& name);

// Loads the module in `file`, which has to be the back end `name`.
Loaded load_module(const std::string& name, const std::string& file);

// Tests put a table in place of the module; nullptr takes it away again.
void set_backend_for_tests(const std::string& name, const Backend* backend);

}  // namespace skf
