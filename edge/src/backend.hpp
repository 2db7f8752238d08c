// What the library and the module of a runtime say to each other. Only C types cross, because a module is a
// shared library of its own; module.hpp turns a C++ class into this table.
#pragma once

#include <cstddef>
#include <cstdint>

#include "skipfold/skipfold.h"

namespace skf {

// Raised with every change of this file; the library refuses modules of another number.
inline constexpr std::uint32_t kBackendAbi = 1;

struct Setting {
  const char* key;
  const char* value;
};

// What to open. Everything is borrowed until `open` returns.
struct Request {
  const void* model;  // the content of the file
  std::size_t model_bytes;
  const char* input;  // the names of the tensors
  const char* output;
  std::uint32_t takes_pixels;  // input uint8 [batch, size, size, 3] instead of float32 [batch, 3, size, size]
  std::uint32_t size, classes;
  std::uint32_t batch_min, batch;  // each run has batch_min to batch pictures
  std::uint32_t threads, device;   // as in skf_options
  const Setting* settings;
  std::size_t setting_count;
  const std::uint32_t* capabilities;  // compute capabilities that will do, 89 for 8.9; none: any
  std::size_t capability_count;
};

// An open network with the buffers that a run reads and writes. The addresses stay until `close`.
struct Session {
  void* self;
  void* input;    // `batch` pictures
  float* output;  // `batch` rows of `classes`
};

// Where a function that fails writes its message, at most `size` bytes with the NUL.
struct Text {
  char* data;
  std::size_t size;
};

struct Backend {
  std::uint32_t abi;
  const char* name;     // as in bundle.json
  const char* version;  // of the runtime that is loaded, for example "2026.4.1"
  skf_code (*open)(const Request* request, Session* out, Text why);
  skf_code (*clone)(void* self, Session* out, Text why);
  skf_code (*run)(void* self, std::size_t pictures, Text why);
  void (*close)(void* self);
};

}  // namespace skf

// The one symbol of a module. Returns NULL and writes the reason if the runtime cannot be used.
extern "C" __attribute__((visibility("default"))) const skf::Backend* skf_backend(skf::Text why);
