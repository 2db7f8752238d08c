// The whole use of the library: a bundle and a picture in, a class out.
//
//     minimal digits.bundle picture.ppm
//
// The picture is a binary PPM file without comments; any program that already has RGB pixels needs none.
#include <cstdint>
#include <fstream>
#include <iostream>
#include <string>
#include <vector>

#include "skipfold/skipfold.hpp"

struct Picture {
  std::uint32_t width = 0, height = 0;
  std::vector<std::uint8_t> rgb;
};

static bool read(const std::string& path, Picture& picture) {
  std::ifstream file(path, std::ios::binary);
  std::string kind;
  std::uint32_t white = 0;
  file >> kind >> picture.width >> picture.height >> white;
  file.get();
  if (!file || kind != "P6" || white != 255 || picture.width > 10000 || picture.height > 10000) return false;
  picture.rgb.resize(std::size_t{3} * picture.width * picture.height);
  file.read(reinterpret_cast<char*>(picture.rgb.data()), static_cast<std::streamsize>(picture.rgb.size()));
  return bool(file);
}

static int fail(const std::string& message) {
  std::cerr << message << '\n';
  return 1;
}

int main(int count, char** values) {
  if (count != 3) return fail("usage: minimal BUNDLE PICTURE.ppm");
  auto net = skipfold::Classifier::open(values[1]);
  if (!net) return fail(net.status().message());

  Picture picture;
  if (!read(values[2], picture)) return fail(std::string(values[2]) + " is not a binary PPM file");
  auto fitted = net->fit(picture.rgb.data(), picture.width, picture.height);
  if (!fitted) return fail(fitted.status().message());
  auto answers = net->classify(*fitted);
  if (!answers) return fail(answers.status().message());

  std::cout << net->name(answers->front().label) << '\n';
  return 0;
}
