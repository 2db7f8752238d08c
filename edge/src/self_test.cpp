#include "self_test.hpp"

#include <algorithm>
#include <cstring>

#include "failure.hpp"
#include "snr.hpp"

namespace skf {
namespace {

struct GoldenData {
  Bytes fitted;               // pictures x size x size x 3
  std::vector<float> images;  // pictures x 3 x size x size
  std::vector<float> scores;  // pictures x classes
};

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "a bundle has little-endian float32");

std::vector<float> floats(const Bytes& bytes) {
  std::vector<float> values(bytes.size() / sizeof(float));
  std::memcpy(values.data(), bytes.data(), values.size() * sizeof(float));
  return values;
}

// Lengthens a list by its beginning.
template <class Values>
void repeat(Values& values, std::size_t wanted) {
  const std::size_t n = values.size();
  if (wanted > n) values.resize(wanted);
  for (std::size_t i = n; i < wanted; ++i) values[i] = values[i - n];
}

GoldenData golden_data(const Folder& folder, const Network& network) {
  const Manifest& manifest = network.manifest;
  const auto read = [&](const std::string& file) { return folder.read(file, manifest.files.at(file)); };
  return {read(manifest.golden.fitted), floats(read(manifest.golden.input)),
          floats(read(network.artifact.golden_logits))};
}

const std::uint8_t* pixels(const GoldenData& golden) {
  return reinterpret_cast<const std::uint8_t*>(golden.fitted.data());
}

// Python's images have to come out of this library's arithmetic bit for bit. A compiler that rounds once
// where x * scale - shift rounds twice would be found here.
void require_same_images(const GoldenData& golden, const Network& network) {
  const Manifest& manifest = network.manifest;
  std::vector<float> images(golden.images.size());
  normalise(pixels(golden), manifest.golden.count, manifest.area(), false, manifest.normalisation,
            images.data());
  for (std::size_t i = 0; i < images.size(); ++i)
    if (std::memcmp(&images[i], &golden.images[i], sizeof(float)) != 0)
      fail(SKF_TOLERANCE, "normalising ", manifest.golden.fitted, " gives ", images[i], " at value ", i,
           ", and ", manifest.golden.input, " has ", golden.images[i]);
}

// Fills a batch that is larger than the number of golden pictures with the same pictures once more, because a
// runtime may have other kernels for a full batch than for a part of one.
void fill_batch(GoldenData& golden, const Network& network) {
  const std::size_t pictures = std::max(network.manifest.golden.count, network.batch);
  repeat(golden.fitted, pictures * network.manifest.picture());
  repeat(golden.images, pictures * network.manifest.picture());
  repeat(golden.scores, pictures * network.classes());
}

// The scores of `count` golden pictures, `step` of them a call.
std::vector<float> scores_here(const GoldenData& golden, const Network& network, Runner& runner,
                               std::size_t count, std::size_t step) {
  const std::size_t picture = network.manifest.picture();
  std::vector<float> scores(count * network.classes());
  for (std::size_t done = 0; done < count; done += step) {
    const std::size_t n = std::min(step, count - done);
    float* out = scores.data() + done * network.classes();
    if (network.artifact.takes_pixels)
      runner.classify(pixels(golden) + done * picture, n, false, nullptr, out);
    else
      runner.infer(golden.images.data() + done * picture, n, out);
  }
  return scores;
}

void require_labels(const std::vector<float>& scores, const Network& network) {
  const Golden& golden = network.manifest.golden;
  for (std::size_t i = 0; i < scores.size() / network.classes(); ++i) {
    const std::uint32_t label = argmax(scores.data() + i * network.classes(), network.classes());
    const std::size_t picture = i % golden.count;
    if (label != golden.labels[picture])
      fail(SKF_TOLERANCE, "golden picture ", picture, " is classified here as ",
           network.manifest.classes[label], ", and where the bundle was made as ",
           network.manifest.classes[golden.labels[picture]]);
  }
}

double judged(const GoldenData& golden, const Network& network, Runner& runner, std::size_t step) {
  const std::size_t count = std::max<std::size_t>(step, network.manifest.golden.count);
  const std::vector<float> scores = scores_here(golden, network, runner, count, step);
  const double snr = snr_db(golden.scores.data(), scores.data(), scores.size());
  // Written so that NaN fails.
  if (!(snr >= network.artifact.golden_snr_db))
    fail(SKF_TOLERANCE, "the golden pictures give ", snr, " dB here in batches of ", step,
         ", and the bundle asks for ", network.artifact.golden_snr_db, " dB");
  require_labels(scores, network);
  return snr;
}

}  // namespace

double self_test(const Folder& folder, const Network& network, Runner& runner) {
  GoldenData golden = golden_data(folder, network);
  if (!network.artifact.takes_pixels) require_same_images(golden, network);
  fill_batch(golden, network);
  const double batches = judged(golden, network, runner, network.batch);
  // A runtime may use other kernels for one picture than for many, and a last batch may have any size.
  return network.batch == 1 ? batches : std::min(batches, judged(golden, network, runner, 1));
}

}  // namespace skf
