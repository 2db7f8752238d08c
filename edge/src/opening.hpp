// Opening a bundle: checks, choice of an artifact, self-test.
#pragma once

#include <memory>
#include <string>

#include "folder.hpp"
#include "manifest.hpp"
#include "network.hpp"

namespace skf {

struct Opened {
  std::shared_ptr<const Network> network;
  std::unique_ptr<Runner> runner;
};

// Reads bundle.json and checks every file of the bundle. `sha256` is that of bundle.json, or null.
Manifest checked_manifest(const Folder& folder, const char* sha256);

// `options` is a complete struct of this library's version.
Opened open_bundle(const char* bundle, const skf_options& options);

}  // namespace skf
