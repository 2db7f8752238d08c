#include "opening.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "cpu.hpp"
#include "failure.hpp"
#include "modules.hpp"
#include "self_test.hpp"
#include "version.hpp"

namespace skf {
namespace {

class Log {
 public:
  explicit Log(const skf_options& options) : options_(options) {}

  template <class... Parts>
  void operator()(int level, const Parts&... parts) const {
    if (options_.log) options_.log(options_.user, level, words(parts...).c_str());
  }

 private:
  const skf_options& options_;
};

std::string joined(const std::vector<std::string>& names) {
  std::string all;
  for (const std::string& name : names) all += (all.empty() ? "" : ", ") + name;
  return all;
}

void require_verified(const Artifact& artifact, const skf_options& options, const Log& log) {
  if (artifact.verified) return;
  if (!(options.flags & SKF_ALLOW_UNVERIFIED))
    fail(SKF_UNVERIFIED, "it never passed `verify`; SKF_ALLOW_UNVERIFIED opens it all the same");
  log(SKF_LOG_WARNING, artifact.id, " never passed `verify`, and SKF_ALLOW_UNVERIFIED was given");
}

void require_cpu(const Artifact& artifact) {
  const Cpu cpu = this_cpu();
  const std::vector<std::string>& archs = artifact.archs;
  if (!archs.empty() && std::find(archs.begin(), archs.end(), cpu.arch) == archs.end())
    fail(SKF_HARDWARE, "it is for ", joined(archs), ", and this is ", cpu.arch);
  if (artifact.needs_vnni && cpu.adds_pairs_in_16_bits)
    fail(SKF_HARDWARE, "its weights use the full 8 bits, which needs a CPU with VNNI, and this ", cpu.arch,
         " CPU has none: sums of two products would overflow 16 bits");
}

const Backend* accepted_backend(const Artifact& artifact) {
  const Loaded loaded = load_backend(artifact.runtime);
  if (!loaded.backend)
    fail(SKF_NO_BACKEND, "its runtime ", artifact.runtime, " does not load here: ", loaded.problem);
  if (!accepts_version(artifact.accepts, artifact.verified_version, loaded.backend->version))
    fail(SKF_VERSION, "it was verified with ", artifact.runtime, " ", artifact.verified_version,
         " and accepts ", artifact.accepts, ", and here is ", loaded.backend->version);
  return loaded.backend;
}

std::uint32_t batch_for(const Artifact& artifact, std::uint32_t wanted) {
  return std::clamp(std::max(wanted, 1u), artifact.batch_min, artifact.batch_max);
}

std::unique_ptr<Runner> open_runner(const Folder& folder, const Network& network,
                                    const skf_options& options) {
  const Artifact& artifact = network.artifact;
  const Bytes model = folder.read(artifact.file, network.manifest.files.at(artifact.file));
  std::vector<Setting> settings;
  for (const auto& [key, value] : artifact.settings) settings.push_back({key.c_str(), value.c_str()});
  Request request{};
  request.model = model.data(), request.model_bytes = model.size();
  request.input = artifact.input.c_str(), request.output = artifact.output.c_str();
  request.takes_pixels = artifact.takes_pixels;
  request.size = network.manifest.size, request.classes = static_cast<std::uint32_t>(network.classes());
  request.batch_min = artifact.batch_min, request.batch = network.batch;
  request.threads = options.threads, request.device = options.device;
  request.settings = settings.data(), request.setting_count = settings.size();
  request.capabilities = artifact.capabilities.data(),
  request.capability_count = artifact.capabilities.size();
  return std::make_unique<Runner>(network, request);
}

void log_opened(const Network& network, const Log& log) {
  const Artifact& artifact = network.artifact;
  const char* version = network.backend->version;
  if (numbers_of(version) != numbers_of(artifact.verified_version))
    log(SKF_LOG_WARNING, artifact.id, " was verified with ", artifact.runtime, " ", artifact.verified_version,
        " and runs here in ", version);
  if (std::isnan(network.snr_db))
    log(SKF_LOG_WARNING, artifact.id, " is open in ", artifact.runtime, " ", version, " without a self-test");
  else
    log(SKF_LOG_INFO, artifact.id, " is open in ", artifact.runtime, " ", version, "; ",
        network.manifest.golden.count, " golden pictures give ", network.snr_db, " dB");
}

Opened open_artifact(const Folder& folder, const Manifest& manifest, const Artifact& artifact,
                     const skf_options& options, const Log& log) {
  require_verified(artifact, options, log);
  require_cpu(artifact);
  auto network = std::make_shared<Network>();
  network->manifest = manifest;
  network->artifact = artifact;
  network->backend = accepted_backend(artifact);
  network->batch = batch_for(artifact, options.max_batch);
  network->bgr = (options.flags & SKF_BGR) != 0;
  network->snr_db = std::numeric_limits<double>::quiet_NaN();
  std::unique_ptr<Runner> runner = open_runner(folder, *network, options);
  if (!(options.flags & SKF_NO_SELF_TEST)) network->snr_db = self_test(folder, *network, *runner);
  log_opened(*network, log);
  return {network, std::move(runner)};
}

// Whether another artifact may run where this one does not. A bundle that contradicts itself is no bundle,
// and a machine without memory will not have more for the next.
bool is_about_this_machine(skf_code code) {
  const skf_code codes[] = {SKF_UNVERIFIED, SKF_NO_BACKEND, SKF_VERSION,
                            SKF_HARDWARE,   SKF_TOLERANCE,  SKF_RUNTIME};
  return std::find(std::begin(codes), std::end(codes), code) != std::end(codes);
}

Opened open_named(const Folder& folder, const Manifest& manifest, const skf_options& options,
                  const Log& log) {
  std::vector<std::string> ids;
  for (const Artifact& artifact : manifest.artifacts) {
    ids.push_back(artifact.id);
    if (artifact.id != options.artifact) continue;
    try {
      return open_artifact(folder, manifest, artifact, options, log);
    } catch (const Failure& failure) {
      throw Failure(failure.code, artifact.id + ": " + failure.what());
    }
  }
  fail(SKF_NOT_FOUND, "the bundle has no artifact ", options.artifact, ", only ", joined(ids));
}

Opened open_first(const Folder& folder, const Manifest& manifest, const skf_options& options,
                  const Log& log) {
  std::string skipped;
  skf_code code = SKF_NO_BACKEND;
  for (const Artifact& artifact : manifest.artifacts) {
    try {
      Opened opened = open_artifact(folder, manifest, artifact, options, log);
      std::const_pointer_cast<Network>(opened.network)->skipped = skipped;
      return opened;
    } catch (const Failure& failure) {
      const std::string reason = artifact.id + ": " + failure.what();
      if (!is_about_this_machine(failure.code)) throw Failure(failure.code, reason);
      log(SKF_LOG_WARNING, "passed over ", reason);
      skipped += (skipped.empty() ? "" : "\n") + reason;
      if (code == SKF_NO_BACKEND) code = failure.code;
    }
  }
  fail(code, "no artifact of the bundle runs here:\n", skipped);
}

}  // namespace

Manifest checked_manifest(const Folder& folder, const char* sha256) {
  std::string expected = sha256 ? sha256 : "";
  for (char& digit : expected)
    if (digit >= 'A' && digit <= 'F') digit = static_cast<char>(digit - 'A' + 'a');
  const bool digits =
      expected.size() == 64 && expected.find_first_not_of("0123456789abcdef") == std::string::npos;
  require_argument(!sha256 || digits, "bundle_sha256 is not 64 hexadecimal digits");
  Manifest manifest = manifest_from(folder.manifest(expected));
  folder.require_exactly(manifest.files);
  return manifest;
}

Opened open_bundle(const char* bundle, const skf_options& options) {
  const Folder folder(bundle);
  const Manifest manifest = checked_manifest(folder, options.bundle_sha256);
  const Log log(options);
  return options.artifact ? open_named(folder, manifest, options, log)
                          : open_first(folder, manifest, options, log);
}

}  // namespace skf
