// The table of a back end from a C++ class. The class has
//
//     static const char* version();              of the runtime; may throw
//     explicit Net(const Request&);              opens
//     std::unique_ptr<Net> clone() const;        for one more thread; shares the weights
//     void run(std::size_t pictures);
//     void* input();  float* output();           the buffers, whose addresses stay
//
// and throws Failure, or whatever its runtime throws; no exception crosses the table.
#pragma once

#include <cstdio>
#include <exception>
#include <memory>
#include <new>

#include "backend.hpp"
#include "failure.hpp"

namespace skf {

template <class Function>
skf_code guarded(Text why, Function&& function) noexcept {
  const auto say = [&](const char* text) { std::snprintf(why.data, why.size, "%s", text); };
  try {
    function();
    return SKF_OK;
  } catch (const Failure& failure) {
    say(failure.what());
    return failure.code;
  } catch (const std::bad_alloc&) {
    say("there is not enough memory");
    return SKF_MEMORY;
  } catch (const std::exception& error) {
    say(error.what());
    return SKF_RUNTIME;
  } catch (...) {
    say("the runtime threw something that is no std::exception");
    return SKF_RUNTIME;
  }
}

template <class Net>
struct Module {
  static Session session_of(std::unique_ptr<Net> net) {
    Session session{nullptr, net->input(), net->output()};
    session.self = net.release();
    return session;
  }

  static skf_code open(const Request* request, Session* out, Text why) noexcept {
    return guarded(why, [&] { *out = session_of(std::make_unique<Net>(*request)); });
  }

  static skf_code clone(void* self, Session* out, Text why) noexcept {
    return guarded(why, [&] { *out = session_of(static_cast<const Net*>(self)->clone()); });
  }

  static skf_code run(void* self, std::size_t pictures, Text why) noexcept {
    return guarded(why, [&] { static_cast<Net*>(self)->run(pictures); });
  }

  static void close(void* self) noexcept { delete static_cast<Net*>(self); }

  static const Backend* table(const char* name, Text why) noexcept {
    static Backend backend{kBackendAbi, name, "", open, clone, run, close};
    return guarded(why, [&] { backend.version = Net::version(); }) == SKF_OK ? &backend : nullptr;
  }
};

}  // namespace skf
