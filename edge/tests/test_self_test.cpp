#include <doctest/doctest.h>

#include <cmath>
#include <string>

#include "made_bundle.hpp"

namespace {

double snr_of(const made::Bundle& bundle, const skf_options& how) {
  const made::Net net(bundle, how);
  skf_info info = {};
  info.size = sizeof info;
  CHECK(skf_get_info(net, &info) == SKF_OK);
  return info.snr_db;
}

}  // namespace

TEST_CASE("Logits that are too far from the golden ones are refused with both figures") {
  const made::StandIn ort;
  const made::Bundle bundle;
  made::behaviour.noise = 0.001f;
  skf_options how = made::options();
  how.artifact = "floats";
  CHECK(made::opened(bundle, how) == SKF_TOLERANCE);
  made::says("dB here in batches of 1, and the bundle asks for 80 dB");
}

TEST_CASE("An artifact that fails the self-test is passed over for one that stands it") {
  const made::StandIn ort;
  const made::Bundle bundle;
  made::behaviour.noise = 0.001f;  // 60 dB of logits near 1, more than 80 dB of logits near 100
  const made::Net net(bundle);
  skf_info info = {};
  info.size = sizeof info;
  CHECK(skf_get_info(net, &info) == SKF_OK);
  CHECK(std::string(info.artifact) == "pixels");
  CHECK(std::string(info.skipped).find("the bundle asks for 80 dB") != std::string::npos);
}

TEST_CASE("Logits within the tolerance are accepted, and info has the figure") {
  const made::StandIn ort;
  made::Bundle bundle;
  made::behaviour.noise = 0.001f;
  bundle.edit([](auto& all) {
    for (auto& artifact : all["artifacts"]) artifact["golden"]["snr_db"] = 40;
  });
  const double snr = snr_of(bundle, made::options());
  CHECK(snr > 55);
  CHECK(snr < 75);
}

TEST_CASE("Of batches and single pictures the lower figure counts") {
  const made::StandIn ort;
  made::Bundle bundle;
  made::behaviour.noise = 0.001f;  // in the first picture of a batch, so that single pictures have more of it
  bundle.edit([](auto& all) {
    for (auto& artifact : all["artifacts"]) artifact["golden"]["snr_db"] = 40;
  });
  skf_options how = made::options();
  const double single = snr_of(bundle, how);
  how.max_batch = 4;
  CHECK(snr_of(bundle, how) == single);
}

TEST_CASE("A label that changes is refused by name, even within the tolerance") {
  const made::StandIn ort;
  made::Bundle bundle;
  bundle.edit([](auto& all) { all["golden"]["labels"][2] = all["golden"]["labels"][2] == 0 ? 1 : 0; });
  CHECK(made::opened(bundle) == SKF_TOLERANCE);
  made::says("golden picture 2 is classified here as");
}

TEST_CASE("Logits that are not finite are refused") {
  const made::StandIn ort;
  const made::Bundle bundle;
  made::behaviour.not_a_number = true;
  CHECK(made::opened(bundle) == SKF_RUNTIME);
  CHECK(made::says("nan for class 2"));
}

TEST_CASE("Images that were normalised otherwise are refused with both values") {
  const made::StandIn ort;
  made::Bundle bundle;
  // One bit of one value, as a fused multiply-add would give it.
  std::string images = bundle.read("golden/input.f32");
  images[4 * 1000] = static_cast<char>(images[4 * 1000] ^ 1);
  bundle.write_listed("golden/input.f32", images);
  skf_options how = made::options();
  how.artifact = "floats";
  CHECK(made::opened(bundle, how) == SKF_TOLERANCE);
  made::says("at value 1000");
  // An artifact that normalises in its graph takes the pixels themselves.
  how.artifact = "pixels";
  CHECK(made::opened(bundle, how) == SKF_OK);
}

TEST_CASE("Exchanged channels do not pass") {
  const made::StandIn ort;
  made::Bundle bundle;
  bundle.edit([](auto& all) {
    std::swap(all["normalise"]["scale"][0], all["normalise"]["scale"][2]);
    std::swap(all["normalise"]["shift"][0], all["normalise"]["shift"][2]);
  });
  skf_options how = made::options();
  how.artifact = "floats";
  CHECK(made::opened(bundle, how) == SKF_TOLERANCE);
}

TEST_CASE("The golden pictures run in batches and one by one") {
  const made::StandIn ort;
  const made::Bundle bundle;
  skf_options how = made::options();
  how.max_batch = 4;
  CHECK(made::opened(bundle, how) == SKF_OK);
  CHECK(made::behaviour.runs == std::vector<std::size_t>{4, 1, 1, 1, 1, 1, 1});
}

TEST_CASE("A batch larger than the number of golden pictures is run as a whole") {
  const made::StandIn ort;
  const made::Bundle bundle;
  for (const char* artifact : {"floats", "pixels"}) {
    skf_options how = made::options();
    how.max_batch = 13, how.artifact = artifact;
    made::behaviour.runs.clear();
    CHECK(snr_of(bundle, how) == INFINITY);
    CHECK(made::behaviour.runs == std::vector<std::size_t>{13, 1, 1, 1, 1, 1});
  }
}

TEST_CASE("The self-test may be left out, and info says so") {
  const made::StandIn ort;
  const made::Bundle bundle;
  made::behaviour.noise = 1;
  skf_options how = made::options();
  how.flags = SKF_NO_SELF_TEST;
  CHECK(std::isnan(snr_of(bundle, how)));
  CHECK(made::behaviour.runs.empty());
}
