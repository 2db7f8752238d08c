// Classifies picture files with a bundle: decode, fit, classify, and the likeliest classes of each picture.
//
//     skipfold-classify --bundle digits.bundle seven.png
//
// The exit status is 0 if every picture was classified, 1 if the bundle did not open or a picture was not
// read, and CLI11's own if the command line was wrong.
#include <CLI/CLI.hpp>
#include <cstdint>
#include <cstdio>
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "answer.hpp"
#include "picture.hpp"
#include "skipfold/skipfold.hpp"

namespace {

struct Arguments {
  std::vector<std::string> pictures;
  std::string bundle;
  std::string artifact;
  std::string sha256;
  std::uint32_t threads = 0;
  std::size_t top = 3;
  bool bgr = false;
  bool unverified = false;
  bool without_self_test = false;
  bool json = false;
};

void declare(CLI::App& app, Arguments& arguments) {
  app.add_option("pictures", arguments.pictures, "PNG, JPEG and PNM files")->required();
  app.add_option("--bundle", arguments.bundle, "The folder that `skipfold bundle` wrote")->required();
  app.add_option("--artifact", arguments.artifact,
                 "Its id; otherwise the first in the bundle that runs here");
  app.add_option("--sha256", arguments.sha256, "The SHA-256 of bundle.json, from a channel that you trust");
  app.add_option("--threads", arguments.threads, "CPU threads; otherwise the runtime's choice");
  app.add_option("--top", arguments.top, "Classes to show of each picture")->check(CLI::PositiveNumber);
  app.add_flag("--bgr", arguments.bgr,
               "Pass pixels in the order blue, green, red; the classes stay the same");
  app.add_flag("--unverified", arguments.unverified, "Open an artifact that was never verified");
  app.add_flag("--no-self-test", arguments.without_self_test, "Open without running the golden pictures");
  app.add_flag("--json", arguments.json, "Print one JSON object");
}

skipfold::Result<skipfold::Classifier> open(const Arguments& arguments) {
  skipfold::Options options;
  options.artifact = arguments.artifact.empty() ? nullptr : arguments.artifact.c_str();
  options.bundle_sha256 = arguments.sha256.empty() ? nullptr : arguments.sha256.c_str();
  options.threads = arguments.threads;
  if (arguments.bgr) options.flags |= SKF_BGR;
  if (arguments.unverified) options.flags |= SKF_ALLOW_UNVERIFIED;
  if (arguments.without_self_test) options.flags |= SKF_NO_SELF_TEST;
  return skipfold::Classifier::open(arguments.bundle, options);
}

void exchange_red_and_blue(pictures::Picture& picture) {
  for (std::size_t i = 0; i < picture.rgb.size(); i += 3) std::swap(picture.rgb[i], picture.rgb[i + 2]);
}

// The classes of one file; throws pictures::Unreadable, which also carries what the library says.
std::vector<classify::Share> classes_of(skipfold::Classifier& net, const std::string& path,
                                        const Arguments& arguments) {
  pictures::Picture picture = pictures::read(path);
  if (arguments.bgr) exchange_red_and_blue(picture);
  const auto fitted = net.fit(picture.rgb.data(), picture.width, picture.height);
  if (!fitted) throw pictures::Unreadable(fitted.status().message());
  const auto answers = net.classify(*fitted);
  if (!answers) throw pictures::Unreadable(answers.status().message());
  return classify::likeliest(net, answers->front().scores, arguments.top);
}

nlohmann::ordered_json described(const skf_info& info) {
  return {{"artifact", info.artifact},
          {"backend", info.backend},
          {"precision", info.precision},
          {"runtime_version", info.runtime_version},
          {"runtime_as_verified", info.runtime_as_verified != 0},
          // null if the logits are equal to the golden ones (infinite) or there was no self-test (NaN).
          {"snr_db", info.snr_db}};
}

nlohmann::ordered_json as_json(const std::string& path, const std::vector<classify::Share>& shares) {
  nlohmann::ordered_json classes = nlohmann::ordered_json::array();
  for (const classify::Share& share : shares)
    classes.push_back({{"class", share.name}, {"probability", share.value}});
  return {{"image", path}, {"classes", classes}};
}

void print_line(const std::string& path, const std::vector<classify::Share>& shares) {
  std::printf("%s", path.c_str());
  for (const classify::Share& share : shares)
    std::printf("  %s %.1f%%", share.name.c_str(), 100 * share.value);
  std::printf("\n");
}

int run(const Arguments& arguments) {
  auto net = open(arguments);
  if (!net) {
    std::cerr << "error: " << net.status().name() << ": " << net.status().message() << '\n';
    return 1;
  }
  nlohmann::ordered_json report = described(net->info());
  report["predictions"] = nlohmann::ordered_json::array();
  int status = 0;
  for (const std::string& path : arguments.pictures) {
    try {
      const auto shares = classes_of(*net, path, arguments);
      report["predictions"].push_back(as_json(path, shares));
      if (!arguments.json) print_line(path, shares);
    } catch (const pictures::Unreadable& problem) {
      std::cerr << "error: " << path << ": " << problem.what() << '\n';
      status = 1;
    }
  }
  if (arguments.json)
    std::cout << report.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) << '\n';
  return status;
}

}  // namespace

int main(int count, char** values) {
  CLI::App app("Classifies pictures with a skipfold bundle.");
  Arguments arguments;
  declare(app, arguments);
  CLI11_PARSE(app, count, values);
  return run(arguments);
}
