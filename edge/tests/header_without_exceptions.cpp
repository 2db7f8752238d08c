#include "skipfold/skipfold.hpp"

extern "C" int opened_without_exceptions(const char* bundle);

int opened_without_exceptions(const char* bundle) {
  const auto net = skipfold::Classifier::open(bundle);
  return net || net.status().message().empty() ? 1 : 0;
}
