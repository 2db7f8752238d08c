#include <doctest/doctest.h>

#include <string>

#include "made_bundle.hpp"
#include "modules.hpp"

namespace {

std::string problem_of(const std::string& name, const std::string& fault) {
  const std::string file = SKIPFOLD_TEST_FALSE_MODULES "/libfalse_module_" + fault + ".so";
  const skf::Loaded loaded = skf::load_module(name, file);
  CHECK(loaded.backend == nullptr);
  return loaded.problem;
}

bool has(const std::string& text, const std::string& part) {
  INFO(text);
  CHECK(text.find(part) != std::string::npos);
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("Every back end has a line with a version or a reason") {
  const made::StandIn ort;
  const std::string lines = skf_backends();
  CHECK(lines.find("ort 1.31.1") != std::string::npos);
  for (const std::string& name : skf::known_backends()) CHECK(lines.find(name + " ") != std::string::npos);
}

TEST_CASE(
    "A runtime that this library does not know has no back end, and the message names those that it knows") {
  made::Bundle bundle;
  bundle.edit([](auto& all) {
    for (auto& artifact : all["artifacts"]) artifact["runtime"]["name"] = "../ort";
  });
  CHECK(made::opened(bundle) == SKF_NO_BACKEND);
  made::says("../ort does not load here");
  made::says("openvino, ort, tensorrt, tensorrt-rtx");
}

TEST_CASE("A module of another interface, of another name or without an entry is not used") {
  has(problem_of("ort", "NEWER"), "has interface 2, and this library has 1");
  has(problem_of("openvino", "NAMED_ORT"), "is the back end ort");
  has(problem_of("ort", "WITHOUT_ENTRY"), "undefined symbol: skf_backend");
  has(problem_of("ort", "REFUSING"), "the runtime is too old");
  has(problem_of("ort", "NOWHERE"), "there is no " SKIPFOLD_TEST_FALSE_MODULES "/libfalse_module_NOWHERE.so");
  CHECK(skf::load_module("ort", SKIPFOLD_TEST_FALSE_MODULES "/libfalse_module_NAMED_ORT.so").backend !=
        nullptr);
}

TEST_CASE("What is no library is not loaded, and the dynamic linker says why") {
  const made::Bundle bundle;
  bundle.write("libskipfold-ort.so", "no library");
  const skf::Loaded loaded = skf::load_module("ort", bundle.at("libskipfold-ort.so"));
  CHECK(loaded.backend == nullptr);
  has(loaded.problem, "libskipfold-ort.so: ");
}
