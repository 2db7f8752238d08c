#include "folder.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <utility>

#include "failure.hpp"
#include "sha256.hpp"

namespace skf {
namespace {

// A bundle.json of six artifacts has about 25 kB, and the tree that is made of one takes many times its bytes.
constexpr std::uint64_t kLargestManifest = 4u << 20;
constexpr int kDeepestFolder = 16;

// A file descriptor that closes itself.
class Descriptor {
 public:
  explicit Descriptor(int number) : number_(number) {}
  Descriptor(Descriptor&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(number_, other.number_);
    return *this;
  }
  ~Descriptor() {
    if (number_ >= 0) close(number_);
  }
  int get() const { return number_; }
  int release() { return std::exchange(number_, -1); }

 private:
  int number_;
};

// Opens one part of the path `file`; errno is ELOOP for a link, and ENOTDIR for a link in place of a folder.
Descriptor open_part(int folder, const std::string& part, int flags, const std::string& file) {
  // O_NONBLOCK keeps a named pipe in place of a file from blocking the call for ever.
  Descriptor opened(openat(folder, part.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | flags));
  if (opened.get() >= 0) return opened;
  if (errno == ENOENT) fail(SKF_ALTERED, file, " is missing from the bundle, and bundle.json lists it");
  if (errno == ELOOP || errno == ENOTDIR)
    fail(SKF_ALTERED, file, " is or lies behind a link, and bundle.json lists a file");
  fail(SKF_IO, file, " could not be opened: ", std::strerror(errno));
}

// Opens a file below `folder` one part at a time, because O_NOFOLLOW looks at the last part of a path alone.
Descriptor open_below(int folder, const std::string& file) {
  Descriptor here(-1);
  std::size_t begin = 0;
  for (std::size_t slash; (slash = file.find('/', begin)) != std::string::npos; begin = slash + 1) {
    here = open_part(folder, file.substr(begin, slash - begin), O_DIRECTORY, file);
    folder = here.get();
  }
  return open_part(folder, file.substr(begin), 0, file);
}

struct stat status_of(const Descriptor& opened, const std::string& file) {
  struct stat status = {};
  if (fstat(opened.get(), &status) != 0) fail(SKF_IO, file, " could not be examined: ", std::strerror(errno));
  if (!S_ISREG(status.st_mode)) fail(SKF_ALTERED, file, " is no plain file");
  return status;
}

// Fills `data` unless the file ends before; returns the number of bytes read.
std::size_t read_some(const Descriptor& opened, char* data, std::size_t bytes, const std::string& file) {
  std::size_t done = 0;
  while (done < bytes) {
    const ssize_t got = ::read(opened.get(), data + done, bytes - done);
    if (got == 0) break;
    if (got > 0) done += static_cast<std::size_t>(got);
    if (got < 0 && errno != EINTR) fail(SKF_IO, file, " could not be read: ", std::strerror(errno));
  }
  return done;
}

// Opens a listed file, whose size is checked before anything is read.
Descriptor open_listed(int folder, const std::string& file, const Listed& listed) {
  Descriptor opened = open_below(folder, file);
  const auto bytes = static_cast<std::uint64_t>(status_of(opened, file).st_size);
  if (bytes != listed.bytes)
    fail(SKF_ALTERED, file, " has ", bytes, " bytes, and bundle.json lists ", listed.bytes);
  return opened;
}

void require_hash(const std::string& file, const std::string& found, const std::string& expected,
                  const char* who) {
  if (found != expected) fail(SKF_ALTERED, file, " has SHA-256 ", found, ", and ", who, " ", expected);
}

void require_unaltered(int folder, const std::string& file, const Listed& listed) {
  const Descriptor opened = open_listed(folder, file, listed);
  Sha256 hash;
  Bytes piece(1 << 16);
  while (const std::size_t bytes = read_some(opened, piece.data(), piece.size(), file))
    hash.update(piece.data(), bytes);
  require_hash(file, hash.hex(), listed.sha256, "bundle.json lists");
}

using Directory = std::unique_ptr<DIR, int (*)(DIR*)>;

Directory directory_of(Descriptor folder, const std::string& name) {
  Directory directory(fdopendir(folder.get()), closedir);
  if (!directory) fail(SKF_IO, name, " could not be listed: ", std::strerror(errno));
  folder.release();
  return directory;
}

// The names in a folder but "." and "..", in order, so that a message does not depend on the file system.
std::vector<std::string> names_in(const Directory& directory, const std::string& folder) {
  std::vector<std::string> names;
  for (;;) {
    errno = 0;  // readdir returns NULL at the end and for an error, and only an error sets errno.
    const dirent* entry = readdir(directory.get());
    if (!entry && errno != 0) fail(SKF_IO, folder, " could not be listed: ", std::strerror(errno));
    if (!entry) break;
    const std::string name = entry->d_name;
    if (name != "." && name != "..") names.push_back(name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

void require_listed(const std::string& file, const Files& files) {
  if (file == "bundle.json" || file == "bundle.sig" || files.count(file)) return;
  fail(SKF_ALTERED, file, " lies in the bundle, and bundle.json does not list it");
}

// Walks through the folder `name` and refuses what is not listed; a link is refused wherever it points.
void require_closed(Descriptor folder, const std::string& name, const Files& files, int depth) {
  if (depth > kDeepestFolder) fail(SKF_ALTERED, name, " lies deeper than ", kDeepestFolder, " folders");
  const Directory directory = directory_of(std::move(folder), name);
  for (const std::string& entry : names_in(directory, name)) {
    const std::string file = name.empty() ? entry : name + "/" + entry;
    struct stat status = {};
    if (fstatat(dirfd(directory.get()), entry.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0)
      fail(SKF_IO, file, " could not be examined: ", std::strerror(errno));
    if (S_ISLNK(status.st_mode)) fail(SKF_ALTERED, file, " is a symbolic link, and a bundle has none");
    if (!S_ISDIR(status.st_mode)) {
      require_listed(file, files);
      continue;
    }
    require_closed(open_part(dirfd(directory.get()), entry, O_DIRECTORY, file), file, files, depth + 1);
  }
}

}  // namespace

Folder::Folder(const std::string& path)
    : path_(path), descriptor_(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)) {
  if (descriptor_ >= 0) return;
  if (errno == ENOENT) fail(SKF_NOT_FOUND, "there is no bundle at ", path);
  if (errno == ENOTDIR)
    fail(SKF_NOT_FOUND, path, " is no folder; unpack an archive first: tar --zstd -xf ", path);
  fail(SKF_IO, "the bundle could not be opened: ", std::strerror(errno), ": ", path);
}

Folder::~Folder() { close(descriptor_); }

std::string Folder::manifest(const std::string& sha256) const {
  const std::string name = "bundle.json";
  if (faccessat(descriptor_, name.c_str(), F_OK, AT_SYMLINK_NOFOLLOW) != 0 && errno == ENOENT)
    fail(SKF_NOT_FOUND, path_, " has no bundle.json, so that it is no bundle");
  const Descriptor opened = open_below(descriptor_, name);
  const auto bytes = static_cast<std::uint64_t>(status_of(opened, name).st_size);
  if (bytes > kLargestManifest)
    fail(SKF_MALFORMED, name, " has ", bytes, " bytes, and at most ", kLargestManifest, " are read");
  std::string text(bytes, '\0');
  text.resize(read_some(opened, text.data(), text.size(), name));
  if (sha256.empty()) return text;
  Sha256 hash;
  hash.update(text.data(), text.size());
  require_hash(name, hash.hex(), sha256, "the caller expects");
  return text;
}

void Folder::require_exactly(const Files& files) const {
  Descriptor again(openat(descriptor_, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (again.get() < 0) fail(SKF_IO, path_, " could not be opened: ", std::strerror(errno));
  require_closed(std::move(again), "", files, 0);
  for (const auto& [file, listed] : files) require_unaltered(descriptor_, file, listed);
}

Bytes Folder::read(const std::string& file, const Listed& listed) const {
  const Descriptor opened = open_listed(descriptor_, file, listed);
  Bytes content(listed.bytes);
  content.resize(read_some(opened, content.data(), content.size(), file));
  Sha256 hash;
  hash.update(content.data(), content.size());
  require_hash(file, hash.hex(), listed.sha256, "bundle.json lists");
  return content;
}

bool stays_inside(const std::string& path) {
  if (path.find('\\') != std::string::npos || path.find('\0') != std::string::npos) return false;
  for (std::size_t begin = 0;;) {
    const std::size_t slash = path.find('/', begin);
    const std::string part = path.substr(begin, slash - begin);
    if (part.empty() || part == "." || part == "..") return false;
    if (slash == std::string::npos) return true;
    begin = slash + 1;
  }
}

}  // namespace skf
