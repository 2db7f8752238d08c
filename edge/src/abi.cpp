// The C functions: arguments are checked, exceptions become codes and messages, and a busy object is refused.
#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstring>
#include <limits>
#include <memory>
#include <new>

#include "failure.hpp"
#include "fit.hpp"
#include "message.hpp"
#include "modules.hpp"
#include "opening.hpp"
#include "skipfold/skipfold.h"
#include "version.hpp"

struct skf_classifier {
  // The runner refers to the network and is therefore destroyed first.
  std::shared_ptr<const skf::Network> network;
  std::unique_ptr<skf::Runner> runner;
  std::atomic_flag busy = ATOMIC_FLAG_INIT;
};

namespace {

skf_code failed(skf_code code, const char* text) noexcept {
  skf::set_message(text);
  return code;
}

template <class Function>
skf_code guarded(Function&& function) noexcept {
  try {
    function();
    return SKF_OK;
  } catch (const skf::Failure& failure) {
    return failed(failure.code, failure.what());
  } catch (const std::bad_alloc&) {
    return failed(SKF_MEMORY, "there is not enough memory");
  } catch (const std::exception& error) {
    return failed(SKF_INTERNAL, error.what());
  } catch (...) {
    return failed(SKF_INTERNAL,
                  "something was thrown that is no std::exception, by the log callback perhaps");
  }
}

// Holds an object for the length of one call.
class Turn {
 public:
  explicit Turn(skf_classifier& self) : self_(self) {
    if (self.busy.test_and_set(std::memory_order_acquire))
      throw skf::Failure(SKF_BUSY,
                         "another thread is inside a call on this object; give each thread a skf_clone");
  }
  Turn(const Turn&) = delete;
  Turn& operator=(const Turn&) = delete;
  ~Turn() { self_.busy.clear(std::memory_order_release); }

 private:
  skf_classifier& self_;
};

using skf::require_argument;

// No version of skf_options will be longer. A greater size was never set, and says nothing about the memory.
constexpr std::size_t kLongestOptions = 4096;

// The caller's struct, which may be a later version's, as this version's. A member that this library does not
// know has to be zero, because what it asks for cannot be done.
skf_options complete(const skf_options* given) {
  skf_options options = {};
  if (!given) return options;
  require_argument(given->size >= sizeof options, "options->size is smaller than the skf_options of ABI 1");
  require_argument(given->size <= kLongestOptions,
                   "options->size is above 4096; set it to sizeof(skf_options)");
  const auto* bytes = reinterpret_cast<const unsigned char*>(given);
  const bool known =
      std::all_of(bytes + sizeof options, bytes + given->size, [](unsigned char byte) { return !byte; });
  require_argument(known, "options has members that this library does not know, and they are not zero");
  std::memcpy(&options, given, sizeof options);
  constexpr std::uint32_t flags = SKF_ALLOW_UNVERIFIED | SKF_NO_SELF_TEST | SKF_BGR;
  require_argument(!(options.flags & ~flags), "options->flags has a flag that this library does not know");
  require_argument(options.threads <= 1024, "options->threads is above 1024");
  return options;
}

skf_info described(const skf::Network& network) {
  const skf::Artifact& artifact = network.artifact;
  skf_info info = {};
  info.height = info.width = network.manifest.size;
  info.classes = static_cast<std::uint32_t>(network.classes());
  info.max_batch = network.batch;
  info.artifact = artifact.id.c_str();
  info.backend = network.backend->name;
  info.precision = artifact.precision.c_str();
  info.runtime_version = network.backend->version;
  info.values = artifact.values.c_str();
  info.skipped = network.skipped.c_str();
  info.runtime_as_verified =
      skf::numbers_of(info.runtime_version) == skf::numbers_of(artifact.verified_version);
  info.takes_pixels = artifact.takes_pixels;
  info.snr_db = network.snr_db;
  return info;
}

// Checks the arguments that all functions on pictures share; the products must not overflow.
void require_pictures(const skf_classifier* self, const void* in, std::size_t n) {
  require_argument(self, "the classifier is NULL");
  require_argument(in, "the pictures are NULL");
  require_argument(n > 0, "there are 0 pictures");
  const std::size_t largest =
      std::max(self->network->manifest.picture(), self->network->classes()) * sizeof(float);
  require_argument(n <= std::numeric_limits<std::size_t>::max() / largest,
                   "there are more pictures than fit into memory");
}

}  // namespace

extern "C" {

uint32_t skf_abi(void) { return SKF_ABI; }

const char* skf_code_name(skf_code code) {
  static const char* const names[] = {"SKF_OK",       "SKF_ARGUMENT",   "SKF_NOT_FOUND",  "SKF_MALFORMED",
                                      "SKF_ALTERED",  "SKF_UNVERIFIED", "SKF_NO_BACKEND", "SKF_VERSION",
                                      "SKF_HARDWARE", "SKF_TOLERANCE",  "SKF_BUSY",       "SKF_MEMORY",
                                      "SKF_RUNTIME",  "SKF_IO",         "SKF_INTERNAL"};
  constexpr auto count = static_cast<skf_code>(sizeof names / sizeof *names);
  return code >= 0 && code < count ? names[code] : "unknown code";
}

const char* skf_message(void) { return skf::message(); }

const char* skf_backends(void) {
  thread_local char text[4096];
  text[0] = '\0';
  const skf_code code = guarded([] {
    std::string all;
    for (const std::string& name : skf::known_backends()) {
      const skf::Loaded loaded = skf::load_backend(name);
      const std::string state = loaded.backend ? loaded.backend->version : "does not load: " + loaded.problem;
      all += (all.empty() ? "" : "\n") + name + " " + state;
    }
    std::snprintf(text, sizeof text, "%s", all.c_str());
  });
  return code == SKF_OK ? text : "";
}

skf_code skf_check(const char* bundle, const char* bundle_sha256) {
  return guarded([&] {
    require_argument(bundle, "the bundle's path is NULL");
    skf::checked_manifest(skf::Folder(bundle), bundle_sha256);
  });
}

skf_code skf_open(const char* bundle, const skf_options* options, skf_classifier** out) {
  return guarded([&] {
    require_argument(bundle, "the bundle's path is NULL");
    require_argument(out, "out is NULL");
    auto self = std::make_unique<skf_classifier>();
    skf::Opened opened = skf::open_bundle(bundle, complete(options));
    self->network = std::move(opened.network);
    self->runner = std::move(opened.runner);
    *out = self.release();
  });
}

skf_code skf_clone(const skf_classifier* self, skf_classifier** out) {
  return guarded([&] {
    require_argument(self, "the classifier is NULL");
    require_argument(out, "out is NULL");
    auto other = std::make_unique<skf_classifier>();
    other->network = self->network;
    other->runner = self->runner->clone(*other->network);
    *out = other.release();
  });
}

void skf_close(skf_classifier* self) { delete self; }

skf_code skf_get_info(const skf_classifier* self, skf_info* out) {
  return guarded([&] {
    require_argument(self, "the classifier is NULL");
    require_argument(out, "out is NULL");
    const std::size_t size = out->size;
    require_argument(size >= sizeof size, "out->size is not set");
    skf_info info = described(*self->network);
    info.size = size;
    std::memcpy(out, &info, std::min(size, sizeof info));
  });
}

const char* skf_class_name(const skf_classifier* self, uint32_t label) {
  if (!self || label >= self->network->classes()) return nullptr;
  return self->network->manifest.classes[label].c_str();
}

skf_code skf_fit(const skf_classifier* self, const uint8_t* pixels, uint32_t width, uint32_t height,
                 size_t stride, uint8_t* out) {
  return guarded([&] {
    require_pictures(self, pixels, 1);
    require_argument(out, "out is NULL");
    require_argument(width > 0 && height > 0, "the picture has no pixels");
    require_argument(stride >= std::size_t{3} * width, "the stride is shorter than a row of 3 bytes a pixel");
    skf::fit(pixels, width, height, stride, self->network->manifest.size, out);
  });
}

skf_code skf_classify(skf_classifier* self, const uint8_t* pixels, size_t n, uint32_t* labels,
                      float* scores) {
  return guarded([&] {
    require_pictures(self, pixels, n);
    const Turn turn(*self);
    self->runner->classify(pixels, n, self->network->bgr, labels, scores);
  });
}

skf_code skf_infer(skf_classifier* self, const float* images, size_t n, float* logits) {
  return guarded([&] {
    require_pictures(self, images, n);
    require_argument(logits, "logits is NULL");
    require_argument(!self->network->artifact.takes_pixels,
                     "this artifact normalises inside its graph and takes pixels; call skf_classify");
    const Turn turn(*self);
    self->runner->infer(images, n, logits);
  });
}

skf_code skf_normalise(const skf_classifier* self, const uint8_t* pixels, size_t n, float* images) {
  return guarded([&] {
    require_pictures(self, pixels, n);
    require_argument(images, "images is NULL");
    const skf::Network& network = *self->network;
    skf::normalise(pixels, n, network.manifest.area(), network.bgr, network.manifest.normalisation, images);
  });
}

}  // extern "C"
