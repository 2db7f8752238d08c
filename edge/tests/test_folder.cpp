// The files of a bundle, through skf_check, which opens no runtime.
#include <doctest/doctest.h>
#include <sys/stat.h>

#include <filesystem>
#include <locale>

#include "folder.hpp"
#include "made_bundle.hpp"
#include "sha256.hpp"

namespace fs = std::filesystem;

namespace {

skf_code checked(const made::Bundle& bundle, const char* sha256 = nullptr) {
  return skf_check(bundle.path().c_str(), sha256);
}

std::string hash_of(const std::string& content) {
  skf::Sha256 sha;
  sha.update(content.data(), content.size());
  return sha.hex();
}

}  // namespace

TEST_CASE("A bundle as it was made is accepted, with a signature beside it, too") {
  const made::Bundle bundle;
  CHECK(checked(bundle) == SKF_OK);
  bundle.write("bundle.sig", "a signature");
  CHECK(checked(bundle) == SKF_OK);
}

TEST_CASE("Where there is no bundle, the message names the path") {
  CHECK(skf_check("/no/such/folder", nullptr) == SKF_NOT_FOUND);
  made::says("/no/such/folder");
  const made::Bundle bundle;
  CHECK(skf_check(bundle.at("bundle.json").c_str(), nullptr) == SKF_NOT_FOUND);
  made::says("unpack");
  CHECK(skf_check(bundle.at("models").c_str(), nullptr) == SKF_NOT_FOUND);
  made::says("bundle.json");
}

TEST_CASE("A path that the system refuses is an error of reading") {
  CHECK(skf_check(std::string(5000, 'x').c_str(), nullptr) == SKF_IO);
  made::says("too long");
}

TEST_CASE("A message that is too long ends with a whole character of UTF-8") {
  const std::string character = "\xc3\xa4";
  for (std::string path : {"", "x"}) {
    for (int i = 0; i < 3000; ++i) path += character;
    CHECK(skf_check(path.c_str(), nullptr) == SKF_IO);
    const std::string message = skf_message();
    CHECK(message.size() >= 4094);
    CHECK(message.substr(message.size() - 2) == character);
  }
}

TEST_CASE("A file that is missing is named") {
  const made::Bundle bundle;
  fs::remove(bundle.at("models/net.onnx"));
  CHECK(checked(bundle) == SKF_ALTERED);
  made::says("models/net.onnx is missing");
}

TEST_CASE("A file of which one byte differs is refused with both hashes") {
  const made::Bundle bundle;
  bundle.write("models/net.onnx", "a netwOrk");
  CHECK(checked(bundle) == SKF_ALTERED);
  made::says(hash_of("a netwOrk"));
  made::says(hash_of("a network"));
}

TEST_CASE("A truncated file is refused with both sizes") {
  const made::Bundle bundle;
  bundle.write("models/net.onnx", "a netw");
  CHECK(checked(bundle) == SKF_ALTERED);
  made::says("has 6 bytes, and bundle.json lists 9");
}

TEST_CASE("Numbers in messages do not follow the program's locale") {
  struct Grouped : std::numpunct<char> {
    char do_thousands_sep() const override { return '.'; }
    std::string do_grouping() const override { return "\3"; }
  };
  const made::Bundle bundle;
  bundle.write("golden/fitted.u8", "x");
  const std::locale before = std::locale::global(std::locale(std::locale(), new Grouped));
  CHECK(checked(bundle) == SKF_ALTERED);
  std::locale::global(before);
  made::says("has 1 bytes, and bundle.json lists 15360");
}

TEST_CASE("A file that bundle.json does not list is refused, in whatever folder") {
  for (const char* file : {"extra", "models/extra.onnx", "deep/er/extra", ".hidden", "models/bundle.json",
                           "golden/bundle.sig"}) {
    const made::Bundle bundle;
    bundle.write(file, "x");
    CHECK(checked(bundle) == SKF_ALTERED);
    made::says(std::string(file) + " lies in the bundle");
  }
}

TEST_CASE("Links are refused, even to the very content") {
  const made::Bundle bundle;
  SUBCASE("in place of a file") {
    fs::rename(bundle.at("models/net.onnx"), bundle.path() + ".elsewhere");
    fs::create_symlink(bundle.path() + ".elsewhere", bundle.at("models/net.onnx"));
    CHECK(checked(bundle) == SKF_ALTERED);
    made::says("models/net.onnx is a symbolic link");
    fs::remove(bundle.path() + ".elsewhere");
  }
  SUBCASE("in place of a folder") {
    fs::rename(bundle.at("models"), bundle.path() + ".elsewhere");
    fs::create_directory_symlink(bundle.path() + ".elsewhere", bundle.at("models"));
    CHECK(checked(bundle) == SKF_ALTERED);
    made::says("models is a symbolic link");
    fs::remove_all(bundle.path() + ".elsewhere");
  }
  SUBCASE("in place of bundle.json") {
    fs::rename(bundle.at("bundle.json"), bundle.path() + ".elsewhere");
    fs::create_symlink(bundle.path() + ".elsewhere", bundle.at("bundle.json"));
    CHECK(checked(bundle) == SKF_ALTERED);
    made::says("link");
    fs::remove(bundle.path() + ".elsewhere");
  }
  SUBCASE("to nowhere") {
    fs::create_symlink("/nowhere", bundle.at("dangling"));
    CHECK(checked(bundle) == SKF_ALTERED);
    made::says("dangling is a symbolic link");
  }
}

TEST_CASE("Reading refuses a link that appeared after the folder was listed") {
  const made::Bundle bundle;
  const skf::Folder folder(bundle.path());
  const skf::Listed listed{9, hash_of("a network")};
  CHECK(folder.read("models/net.onnx", listed).size() == 9);
  fs::rename(bundle.at("models"), bundle.at("moved"));
  fs::create_directory_symlink("moved", bundle.at("models"));
  CHECK_THROWS(folder.read("models/net.onnx", listed));
  fs::remove(bundle.at("models"));
  fs::rename(bundle.at("moved"), bundle.at("models"));
  bundle.write("models/net.onnx", "a netwOrk");
  CHECK_THROWS(folder.read("models/net.onnx", listed));
}

TEST_CASE("A named pipe in place of a file is refused and does not block") {
  const made::Bundle bundle;
  fs::remove(bundle.at("models/net.onnx"));
  REQUIRE(mkfifo(bundle.at("models/net.onnx").c_str(), 0600) == 0);
  CHECK(checked(bundle) == SKF_ALTERED);
  made::says("models/net.onnx is no plain file");
}

TEST_CASE("Folders without end are refused") {
  const made::Bundle bundle;
  std::string deep = "d";
  for (int i = 0; i < 20; ++i) deep += "/d";
  fs::create_directories(bundle.at(deep));
  CHECK(checked(bundle) == SKF_ALTERED);
  made::says("deeper than 16");
}

TEST_CASE("bundle.json is the one that the caller expects, or is refused with both hashes") {
  const made::Bundle bundle;
  std::string hash = hash_of(bundle.read("bundle.json"));
  CHECK(checked(bundle, hash.c_str()) == SKF_OK);
  for (char& digit : hash) digit = static_cast<char>(toupper(digit));
  CHECK(checked(bundle, hash.c_str()) == SKF_OK);
  const std::string other(64, '0');
  CHECK(checked(bundle, other.c_str()) == SKF_ALTERED);
  made::says(other);
  made::says(hash_of(bundle.read("bundle.json")));
  CHECK(checked(bundle, "123") == SKF_ARGUMENT);
  CHECK(checked(bundle, std::string(64, 'g').c_str()) == SKF_ARGUMENT);
}

TEST_CASE("A bundle.json without end is refused before anything is read") {
  const made::Bundle bundle;
  fs::resize_file(bundle.at("bundle.json"), (4u << 20) + 1);
  CHECK(checked(bundle) == SKF_MALFORMED);
  made::says("4194305 bytes");
}

TEST_CASE("Only paths that stay in the folder are listed") {
  for (const char* path : {"a", "a/b", "a/..b", "..."}) CHECK(skf::stays_inside(path));
  for (const char* path : {"", "/", "/a", "a/", "a//b", "..", "../a", "a/../b", "a/..", ".", "./a", "a\\b"})
    CHECK_FALSE(skf::stays_inside(path));
  CHECK_FALSE(skf::stays_inside(std::string("a\0b", 3)));
}
