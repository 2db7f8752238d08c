#include <doctest/doctest.h>

#include <string>

#include "made_bundle.hpp"
#include "modules.hpp"

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
