// How fast an artifact of a bundle runs here, and what the library costs over the runtime's own API.
//
//     skipfold-bench digits.bundle --artifact ort-fp32 --most-overhead 2
//
// Times are those of skf_infer on normalised images: the median and the 99th percentile of a call, images per
// second, and the time to open. The overhead compares skf_infer with the same call of the runtime's API,
// interleaved in this process; the same comparison of the runtime with itself shows how far to trust the
// figure. With --most-overhead the exit status is 1 if the overhead is above that in each of five rounds.
#include <CLI/CLI.hpp>
#include <cstdint>
#include <exception>
#include <iostream>
#include <nlohmann/json.hpp>
#include <optional>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "raw.hpp"
#include "skipfold/skipfold.hpp"
#include "timing.hpp"

namespace {

constexpr int kRounds = 5;

struct Arguments {
  std::string bundle;
  std::string artifact;
  std::uint32_t batch = 1;
  std::uint32_t threads = 0;
  double seconds = 3;
  std::optional<double> most_overhead;
};

struct Overhead {
  double library = 0;
  double noise = 0;
};

void declare(CLI::App& app, Arguments& arguments) {
  app.add_option("bundle", arguments.bundle, "The folder that `skipfold bundle` wrote")->required();
  app.add_option("--artifact", arguments.artifact,
                 "Its id; otherwise the first in the bundle that runs here");
  app.add_option("--batch", arguments.batch, "Images of one call")->check(CLI::PositiveNumber);
  app.add_option("--threads", arguments.threads, "CPU threads; otherwise the runtime's choice");
  app.add_option("--seconds", arguments.seconds, "How long each figure is measured")
      ->check(CLI::PositiveNumber);
  app.add_option("--most-overhead", arguments.most_overhead,
                 "Percent over the runtime's API that are allowed");
}

template <class T>
T value_of(skipfold::Result<T> result) {
  if (!result)
    throw std::runtime_error(std::string(result.status().name()) + ": " + result.status().message());
  return std::move(*result);
}

void insist(const skipfold::Status& status) {
  if (!status) throw std::runtime_error(std::string(status.name()) + ": " + status.message());
}

skipfold::Classifier open(const Arguments& arguments, std::uint32_t flags) {
  skipfold::Options options;
  options.artifact = arguments.artifact.empty() ? nullptr : arguments.artifact.c_str();
  options.max_batch = arguments.batch;
  options.threads = arguments.threads;
  options.flags = flags;
  return value_of(skipfold::Classifier::open(arguments.bundle, options));
}

std::vector<float> random_images(std::size_t values) {
  std::mt19937 random(16);
  std::normal_distribution<float> normal;
  std::vector<float> images(values);
  for (float& value : images) value = normal(random);
  return images;
}

// The smallest of up to five rounds, because a busy machine only ever adds to a time. A round within the
// allowed percentage ends the measurement.
Overhead overhead_of(const bench::Call& library, const bench::Call& raw, const bench::Call& again,
                     const Arguments& arguments) {
  Overhead least;
  for (int round = 0; round < kRounds; ++round) {
    const Overhead found{bench::overhead_percent(raw, library, arguments.seconds),
                         bench::overhead_percent(raw, again, arguments.seconds)};
    if (round == 0 || found.library < least.library) least = found;
    if (!arguments.most_overhead || least.library <= *arguments.most_overhead) break;
  }
  return least;
}

nlohmann::ordered_json measured(skipfold::Classifier& net, const Arguments& arguments,
                                const std::vector<float>& images) {
  std::vector<float> logits(std::size_t{arguments.batch} * net.info().classes);
  const auto infer = [&] { insist(net.infer(images.data(), arguments.batch, logits.data())); };
  const std::vector<double> times = bench::times_of(infer, arguments.seconds);
  const double median = bench::quantile(times, 0.5);
  return {{"calls", times.size()},
          {"p50_us", median},
          {"p99_us", bench::quantile(times, 0.99)},
          {"images_per_second", 1e6 * arguments.batch / median}};
}

// Empty if this program was compiled without the artifact's runtime.
std::optional<Overhead> compared(skipfold::Classifier& net, const Arguments& arguments,
                                 const std::vector<float>& images) {
  const bench::Artifact artifact =
      bench::artifact_of(arguments.bundle, net.info().artifact, arguments.batch, arguments.threads);
  const auto raw = bench::open_raw(artifact);
  const auto twin = bench::open_raw(artifact);
  if (!raw) return std::nullopt;
  std::vector<float> logits(artifact.batch() * artifact.classes);
  std::vector<float> expected(logits.size());
  raw->infer(images.data(), expected.data());
  insist(net.infer(images.data(), arguments.batch, logits.data()));
  if (logits != expected) throw std::runtime_error("the runtime's own API gives other logits than skf_infer");
  return overhead_of([&] { insist(net.infer(images.data(), arguments.batch, logits.data())); },
                     [&] { raw->infer(images.data(), logits.data()); },
                     [&] { twin->infer(images.data(), logits.data()); }, arguments);
}

int run(const Arguments& arguments) {
  nlohmann::ordered_json report;
  const double bare = bench::microseconds([&] { open(arguments, SKF_NO_SELF_TEST); });
  const double whole = bench::microseconds([&] { open(arguments, 0); });
  skipfold::Classifier net = open(arguments, 0);
  const skf_info& info = net.info();
  const auto images = random_images(std::size_t{3} * info.height * info.width * arguments.batch);
  report = {
      {"artifact", info.artifact}, {"runtime_version", info.runtime_version}, {"batch", arguments.batch}};
  // The first opening also loads the runtime.
  report["first_open_without_self_test_ms"] = bare / 1e3;
  report["open_ms"] = whole / 1e3;
  report["infer"] = measured(net, arguments, images);
  const std::optional<Overhead> overhead = compared(net, arguments, images);
  if (overhead)
    report["overhead_percent"] = {{"skf_infer", overhead->library}, {"same_call_twice", overhead->noise}};
  std::cout << report.dump(1) << '\n';
  if (!arguments.most_overhead) return 0;
  if (!overhead) throw std::runtime_error("this program was compiled without the runtime of the artifact");
  return overhead->library <= *arguments.most_overhead ? 0 : 1;
}

}  // namespace

int main(int count, char** values) {
  CLI::App app("Measures a skipfold bundle on this machine.");
  Arguments arguments;
  declare(app, arguments);
  CLI11_PARSE(app, count, values);
  try {
    return run(arguments);
  } catch (const std::exception& problem) {
    std::cerr << "error: " << problem.what() << '\n';
    return 2;
  }
}
