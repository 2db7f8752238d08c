// Which artifact opens, and why the others do not.
#include <doctest/doctest.h>

#include <cmath>
#include <stdexcept>

#include "made_bundle.hpp"

namespace {

// The lines that a log callback receives, with their levels.
struct Lines {
  std::string text;
  static void add(void* self, int level, const char* line) {
    static_cast<Lines*>(self)->text += std::to_string(level) + " " + line + "\n";
  }
  bool has(const std::string& part) const {
    INFO(text);
    CHECK(text.find(part) != std::string::npos);
    return text.find(part) != std::string::npos;
  }
};

skf_options logged(Lines& lines) {
  skf_options how = made::options();
  how.log = Lines::add;
  how.user = &lines;
  return how;
}

skf_options only(const char* artifact) {
  skf_options how = made::options();
  how.artifact = artifact;
  return how;
}

skf_info info_of(const skf_classifier* net) {
  skf_info info = {};
  info.size = sizeof info;
  CHECK(skf_get_info(net, &info) == SKF_OK);
  return info;
}

}  // namespace

TEST_CASE("The first artifact of the bundle's order is opened and described") {
  const made::StandIn ort;
  const made::Bundle bundle;
  Lines lines;
  const made::Net net(bundle, logged(lines));
  const skf_info info = info_of(net);
  CHECK(info.height == 32);
  CHECK(info.width == 32);
  CHECK(info.classes == 3);
  CHECK(info.max_batch == 1);
  CHECK(info.artifact == std::string("floats"));
  CHECK(info.backend == std::string("ort"));
  CHECK(info.precision == std::string("fp32"));
  CHECK(info.runtime_version == std::string("1.31.1"));
  CHECK(info.values == std::string("logits"));
  CHECK(info.skipped == std::string());
  CHECK(info.runtime_as_verified == 1);
  CHECK(info.takes_pixels == 0);
  CHECK(info.snr_db == INFINITY);
  CHECK(made::behaviour.settings ==
        std::vector<std::pair<std::string, std::string>>{{"graph_optimization_level", "all"}});
  lines.has("0 floats is open in ort 1.31.1; 5 golden pictures give inf dB");
}

TEST_CASE("An artifact is opened by its id, and an unknown id names those that there are") {
  const made::StandIn ort;
  const made::Bundle bundle;
  const made::Net net(bundle, only("pixels"));
  CHECK(info_of(net).artifact == std::string("pixels"));
  CHECK(info_of(net).takes_pixels == 1);
  CHECK(made::opened(bundle, only("int4")) == SKF_NOT_FOUND);
  made::says("int4");
  made::says("floats, pixels");
}

TEST_CASE("The runtime's version has to be one that the bundle accepts, and the message names both") {
  made::behaviour.version = "1.31.1";
  const made::StandIn ort;
  made::Bundle bundle;
  bundle.edit([](auto& all) {
    for (auto& artifact : all["artifacts"]) artifact["runtime"]["verified_version"] = "1.30.9";
  });
  CHECK(made::opened(bundle) == SKF_VERSION);
  made::says("1.30.9");
  made::says("1.31.1");
  bundle.edit([](auto& all) { all["artifacts"][0]["runtime"]["accepts"] = "same major"; });
  Lines lines;
  const made::Net net(bundle, logged(lines));
  CHECK(info_of(net).runtime_as_verified == 0);
  lines.has("1 floats was verified with ort 1.30.9 and runs here in 1.31.1");
}

TEST_CASE("A word for versions that this library does not know is an error of the bundle") {
  const made::StandIn ort;
  made::Bundle bundle;
  bundle.edit([](auto& all) { all["artifacts"][0]["runtime"]["accepts"] = "newer"; });
  CHECK(made::opened(bundle) == SKF_MALFORMED);
  made::says("newer");
}

TEST_CASE("What was not verified is opened only on demand") {
  const made::StandIn ort;
  made::Bundle bundle;
  bundle.edit([](auto& all) {
    all["artifacts"][0]["verdict"] = nullptr;
    all["artifacts"][1]["verdict"]["passed"] = false;
  });
  CHECK(made::opened(bundle) == SKF_UNVERIFIED);
  made::says("floats: it never passed");
  made::says("pixels: it never passed");
  Lines lines;
  skf_options how = logged(lines);
  how.flags = SKF_ALLOW_UNVERIFIED;
  CHECK(made::opened(bundle, how) == SKF_OK);
  lines.has("1 floats never passed");
}

TEST_CASE("An artifact that does not run here is passed over, and info, log and message say why") {
  const made::StandIn ort;
  made::Bundle bundle;
  bundle.edit([](auto& all) { all["artifacts"][0]["runtime"]["name"] = "nothing"; });
  {
    Lines lines;
    const made::Net net(bundle, logged(lines));
    CHECK(info_of(net).artifact == std::string("pixels"));
    CHECK(std::string(info_of(net).skipped).find("floats: its runtime nothing does not load") == 0);
    lines.has("1 passed over floats: its runtime nothing");
  }
  // By its id the same artifact is an error.
  CHECK(made::opened(bundle, only("floats")) == SKF_NO_BACKEND);
  // The code is that of the artifact whose runtime is there.
  bundle.edit([](auto& all) { all["artifacts"][1]["hardware"]["arch"] = {"riscv64"}; });
  CHECK(made::opened(bundle) == SKF_HARDWARE);
  made::says("floats: its runtime nothing");
  made::says("pixels: it is for riscv64");
  // In the other order, too.
  bundle.edit([](auto& all) { std::swap(all["artifacts"][0], all["artifacts"][1]); });
  CHECK(made::opened(bundle) == SKF_HARDWARE);
}

TEST_CASE("Where the runtime fails to open, its words are the message") {
  const made::StandIn ort;
  const made::Bundle bundle;
  for (const skf_code code : {SKF_RUNTIME, SKF_HARDWARE, SKF_VERSION, SKF_MALFORMED, SKF_MEMORY}) {
    made::behaviour.open_code = code;
    CHECK(made::opened(bundle) == code);
    made::says("floats: the stand-in was told to fail");
  }
}

TEST_CASE(
    "What is wrong with this machine is no reason to stop at the first artifact, and anything else is") {
  const made::StandIn ort;
  const made::Bundle bundle;
  made::behaviour.opens_pixels = true;
  for (const skf_code code : {SKF_NO_BACKEND, SKF_VERSION, SKF_HARDWARE, SKF_TOLERANCE, SKF_RUNTIME}) {
    made::behaviour.open_code = code;
    CHECK(made::opened(bundle) == SKF_OK);
  }
  for (const skf_code code : {SKF_MALFORMED, SKF_ALTERED, SKF_MEMORY, SKF_IO, SKF_INTERNAL}) {
    made::behaviour.open_code = code;
    CHECK(made::opened(bundle) == code);
  }
}

TEST_CASE("Threads, device and batch reach the runtime, and the bundle limits the batch") {
  const made::StandIn ort;
  made::Bundle bundle;
  skf_options how = made::options();
  how.max_batch = 8, how.threads = 3, how.device = 2;
  CHECK(made::opened(bundle, how) == SKF_OK);
  CHECK(made::behaviour.batch == 8);
  CHECK(made::behaviour.threads == 3);
  CHECK(made::behaviour.device == 2);
  bundle.edit([](auto& all) { all["artifacts"][0]["input"]["batch"] = {{"min", 2}, {"max", 4}}; });
  CHECK(made::opened(bundle, how) == SKF_OK);
  CHECK(made::behaviour.batch == 4);
  how.max_batch = 1;
  CHECK(made::opened(bundle, how) == SKF_OK);
  CHECK(made::behaviour.batch == 2);
}

TEST_CASE("A file that is altered stops the opening, whatever the artifact") {
  const made::StandIn ort;
  const made::Bundle bundle;
  bundle.write("golden/logits.pixels.f32", std::string(60, 'x'));
  CHECK(made::opened(bundle) == SKF_ALTERED);
  CHECK(made::behaviour.open_sessions == 0);
}

TEST_CASE("The hash of bundle.json may be demanded") {
  const made::StandIn ort;
  const made::Bundle bundle;
  skf_options how = made::options();
  const std::string hash(64, '0');
  how.bundle_sha256 = hash.c_str();
  CHECK(made::opened(bundle, how) == SKF_ALTERED);
  how.bundle_sha256 = "0";
  CHECK(made::opened(bundle, how) == SKF_ARGUMENT);
}

TEST_CASE("Whatever a callback throws stays inside") {
  const made::StandIn ort;
  const made::Bundle bundle;
  skf_options how = made::options();
  how.log = [](void*, int, const char*) { throw 7; };
  CHECK(made::opened(bundle, how) == SKF_INTERNAL);
  how.log = [](void*, int, const char*) { throw std::runtime_error("the callback's own words"); };
  CHECK(made::opened(bundle, how) == SKF_INTERNAL);
  made::says("the callback's own words");
  CHECK(made::behaviour.open_sessions == 0);
}

TEST_CASE("No session is left open") {
  const made::StandIn ort;
  const made::Bundle bundle;
  {
    const made::Net net(bundle);
    CHECK(made::behaviour.open_sessions == 1);
  }
  CHECK(made::behaviour.open_sessions == 0);
  made::behaviour.noise = 1;
  CHECK(made::opened(bundle) == SKF_TOLERANCE);
  CHECK(made::behaviour.open_sessions == 0);
}
