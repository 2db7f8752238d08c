// The classes of a bundle's golden pictures, one a line, through the C++17 layer and without exceptions.
//
//     consumer-cpp BUNDLE ARTIFACT
#include <cstdio>
#include <fstream>
#include <iterator>
#include <string>

#include "skipfold/skipfold.hpp"

namespace {

int fail(const skipfold::Status& status) {
  std::fprintf(stderr, "%s: %s\n", status.name(), status.message().c_str());
  return 1;
}

skipfold::Pixels golden_pictures(const std::string& bundle) {
  std::ifstream file(bundle + "/golden/fitted.u8", std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

}  // namespace

int main(int count, char** values) {
  if (count != 3) return 2;
  skipfold::Options options;
  options.artifact = values[2];
  options.max_batch = 5;
  auto net = skipfold::Classifier::open(values[1], options);
  if (!net) return fail(net.status());
  auto answers = net->classify(golden_pictures(values[1]));
  if (!answers) return fail(answers.status());
  for (const skipfold::Answer& answer : *answers) std::puts(net->name(answer.label).c_str());
  return 0;
}
