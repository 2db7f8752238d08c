#include <doctest/doctest.h>

#include <atomic>
#include <future>
#include <string>
#include <thread>

#include "made_bundle.hpp"

TEST_CASE("A second thread on the same object is told that it is busy, and what to do") {
  const made::StandIn ort;
  const made::Bundle bundle;
  const made::Net net(bundle);
  const auto pixels = made::pictures(1);
  std::promise<void> entered, leave;
  std::shared_future<void> left = leave.get_future().share();
  made::behaviour.during_run = [&, left] {
    entered.set_value();
    left.wait();
  };
  std::uint32_t label = 99;
  std::thread first([&] { CHECK(skf_classify(net, pixels.data(), 1, &label, nullptr) == SKF_OK); });
  entered.get_future().wait();
  const std::vector<float> images(made::kPicture);
  float logits[3];
  CHECK(skf_classify(net, pixels.data(), 1, nullptr, logits) == SKF_BUSY);
  made::says("skf_clone");
  CHECK(skf_infer(net, images.data(), 1, logits) == SKF_BUSY);
  // What only reads is allowed at any time.
  skf_info info = {};
  info.size = sizeof info;
  CHECK(skf_get_info(net, &info) == SKF_OK);
  std::vector<std::uint8_t> fitted(made::kPicture);
  CHECK(skf_fit(net, pixels.data(), 32, 32, 96, fitted.data()) == SKF_OK);
  skf_classifier* raw = nullptr;
  CHECK(skf_clone(net, &raw) == SKF_OK);
  skf_close(raw);
  leave.set_value();
  first.join();
  CHECK(label == 0);
  made::behaviour.during_run = nullptr;
  CHECK(skf_classify(net, pixels.data(), 1, &label, nullptr) == SKF_OK);
}

TEST_CASE("Each thread has its own message") {
  CHECK(skf_check("/no/such/folder", nullptr) == SKF_NOT_FOUND);
  std::thread([] {
    CHECK(std::string(skf_message()).empty());
    CHECK(skf_check(nullptr, nullptr) == SKF_ARGUMENT);
  }).join();
  CHECK(made::says("/no/such/folder"));
}

TEST_CASE("Clones in threads give what one object gives, and clones of clones do") {
  const made::StandIn ort;
  const made::Bundle bundle;
  const made::Net net(bundle);
  const auto pixels = made::pictures(6);
  made::behaviour.during_run = [] {};  // the list of runs is not for many threads
  std::vector<float> expected(18);
  CHECK(skf_classify(net, pixels.data(), 6, nullptr, expected.data()) == SKF_OK);
  std::atomic<int> wrong{0};
  const auto work = [&] {
    skf_classifier* raw = nullptr;
    if (skf_clone(net, &raw) != SKF_OK) ++wrong;
    const made::Net mine(raw);
    for (int i = 0; i < 200; ++i) {
      std::vector<float> scores(18);
      if (skf_classify(mine, pixels.data(), 6, nullptr, scores.data()) != SKF_OK || scores != expected)
        ++wrong;
    }
  };
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) threads.emplace_back(work);
  for (std::thread& thread : threads) thread.join();
  CHECK(wrong == 0);
  CHECK(made::behaviour.open_sessions == 1);
}

TEST_CASE("Many threads on one object get an answer or SKF_BUSY, and nothing else") {
  const made::StandIn ort;
  const made::Bundle bundle;
  const made::Net net(bundle);
  const auto pixels = made::pictures(1);
  made::behaviour.during_run = [] { std::this_thread::yield(); };
  std::atomic<int> answers{0}, busy{0}, wrong{0};
  const auto work = [&] {
    for (int i = 0; i < 300; ++i) {
      std::uint32_t label = 99;
      const skf_code code = skf_classify(net, pixels.data(), 1, &label, nullptr);
      ++(code == SKF_OK && label == 0 ? answers : code == SKF_BUSY && label == 99 ? busy : wrong);
    }
  };
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) threads.emplace_back(work);
  for (std::thread& thread : threads) thread.join();
  CHECK(wrong == 0);
  CHECK(answers > 0);
  CHECK(answers + busy == 1200);
}
