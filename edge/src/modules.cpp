#include "modules.hpp"

#include <dlfcn.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <mutex>

#include "failure.hpp"

namespace skf {
namespace {

// Both live as long as the process, because a program may classify in a destructor of its own.
std::mutex& lock() {
  static auto* mutex = new std::mutex;
  return *mutex;
}

std::map<std::string, Loaded>& cache() {
  static auto* loaded = new std::map<std::string, Loaded>;
  return *loaded;
}

// The folder of the file that holds this code: libskipfold.so, or a program that was linked with its objects.
const std::string& own_folder() {
  static const auto* folder = [] {
    Dl_info here = {};
    dladdr(reinterpret_cast<const void*>(&known_backends), &here);
    return new std::string(
        std::filesystem::absolute(here.dli_fname ? here.dli_fname : "").parent_path().string());
  }();
  return *folder;
}

// The folder is found while the file is loaded. The dynamic linker may know the file by a path like
// "lib/libskipfold.so", and after a change of the working directory that path leads to anybody's files.
[[maybe_unused]] const std::string& found_while_loading = own_folder();

std::string dynamic_linker_problem() {
  const char* problem = dlerror();
  return problem ? problem : "the dynamic linker gives no reason";
}

}  // namespace

Loaded load_module(const std::string& name, const std::string& file) {
  if (access(file.c_str(), F_OK) != 0)
    return {nullptr, "this library was built without it: there is no " + file};
  // RTLD_LOCAL keeps the symbols of one runtime from another's: both OpenVINO and ONNX Runtime carry
  // protobuf.
  void* module = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!module) return {nullptr, dynamic_linker_problem()};
  const auto entry = reinterpret_cast<decltype(&skf_backend)>(dlsym(module, "skf_backend"));
  if (!entry) return {nullptr, dynamic_linker_problem()};
  char why[512] = "";
  const Backend* backend = entry({why, sizeof why});
  if (!backend) return {nullptr, why};
  if (backend->abi != kBackendAbi)
    return {nullptr, words(file, " has interface ", backend->abi, ", and this library has ", kBackendAbi)};
  if (backend->name != name) return {nullptr, words(file, " is the back end ", backend->name)};
  return {backend, ""};
}

const std::vector<std::string>& known_backends() {
  static const auto* names = new std::vector<std::string>{"openvino", "ort", "tensorrt", "tensorrt-rtx"};
  return *names;
}

Loaded load_backend(const std::string& name) {
  const std::lock_guard<std::mutex> hold(lock());
  const auto found = cache().find(name);
  if (found != cache().end()) return found->second;
  const std::vector<std::string>& known = known_backends();
  if (std::find(known.begin(), known.end(), name) == known.end()) {
    std::string all;
    for (const std::string& one : known) all += (all.empty() ? "" : ", ") + one;
    return {nullptr, words("this library knows no back end of that name, only ", all)};
  }
  Loaded loaded = load_module(name, own_folder() + "/libskipfold-" + name + ".so");
  cache().emplace(name, loaded);
  return loaded;
}

void set_backend_for_tests(const std::string& name, const Backend* backend) {
  const std::lock_guard<std::mutex> hold(lock());
  cache().erase(name);
  if (backend) cache().emplace(name, Loaded{backend, ""});
}

}  // namespace skf
