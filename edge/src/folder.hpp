// A bundle's folder, whose files are those that bundle.json lists, and no others.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace skf {

using Bytes = std::vector<char>;

// What bundle.json says of one file.
struct Listed {
  std::uint64_t bytes;
  std::string sha256;
};
using Files = std::map<std::string, Listed>;

class Folder {
 public:
  // Fails with SKF_NOT_FOUND if `path` is not a folder.
  explicit Folder(const std::string& path);
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  ~Folder();

  // The text of bundle.json, which must have this SHA-256 unless `sha256` is empty.
  std::string manifest(const std::string& sha256) const;

  // Fails with SKF_ALTERED unless the folder holds every listed file, unaltered, and nothing else.
  void require_exactly(const Files& files) const;

  // The content of a listed file, whose hash is checked once more, so that what is used is what was hashed.
  Bytes read(const std::string& file, const Listed& listed) const;

 private:
  std::string path_;
  int descriptor_;
};

// Whether `path` is relative and stays in the folder: no empty part, no ".", no "..", no backslash.
bool stays_inside(const std::string& path);

}  // namespace skf
