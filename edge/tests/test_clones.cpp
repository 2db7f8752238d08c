#include <doctest/doctest.h>

#include <atomic>
#include <string>
#include <thread>

#include "received_bundle.hpp"

TEST_CASE("Clones in threads give what one object gives, bit for bit, in every runtime") {
  const auto pixels = received::values_in<std::uint8_t>(received::bundle() + "/golden/fitted.u8");
  const std::size_t n = received::manifest()["golden"]["count"];
  for (const std::string& artifact : received::artifacts()) {
    CAPTURE(artifact);
    auto net = received::open(artifact, 4, 0, 1);
    std::vector<float> expected(n * net.info().classes);
    REQUIRE(net.classify(pixels.data(), n, nullptr, expected.data()));
    std::atomic<int> wrong{0};
    const auto work = [&] {
      auto mine = net.clone();
      if (!mine) ++wrong;
      for (int i = 0; mine && i < 10; ++i) {
        std::vector<float> scores(expected.size());
        if (!mine->classify(pixels.data(), n, nullptr, scores.data()) || scores != expected) ++wrong;
      }
    };
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; ++i) threads.emplace_back(work);
    for (std::thread& thread : threads) thread.join();
    CHECK(wrong == 0);
  }
}

TEST_CASE("One object in many threads answers rightly or says that it is busy") {
  const auto pixels = received::values_in<std::uint8_t>(received::bundle() + "/golden/fitted.u8");
  for (const std::string& runtime : received::runtimes()) {
    auto net = received::open(received::artifact_of(runtime), 1, 0, 1);
    std::vector<float> expected(net.info().classes);
    REQUIRE(net.classify(pixels.data(), 1, nullptr, expected.data()));
    std::atomic<int> answers{0}, busy{0}, wrong{0};
    const auto work = [&] {
      for (int i = 0; i < 100; ++i) {
        std::vector<float> scores(expected.size());
        const auto status = net.classify(pixels.data(), 1, nullptr, scores.data());
        ++(status.ok() && scores == expected ? answers : status.code() == SKF_BUSY ? busy : wrong);
      }
    };
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; ++i) threads.emplace_back(work);
    for (std::thread& thread : threads) thread.join();
    MESSAGE(runtime << ": " << answers.load() << " answers, " << busy.load() << " times busy");
    CHECK(wrong == 0);
    CHECK(answers > 0);
  }
}
