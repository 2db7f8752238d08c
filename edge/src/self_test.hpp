// The golden pictures on this machine.
#pragma once

#include "folder.hpp"
#include "network.hpp"

namespace skf {

// Runs the golden pictures through `runner` in full batches, and one by one if a batch has more than one.
// Returns the lower signal to noise in dB. Fails with SKF_TOLERANCE, naming both figures, if it is below the
// bundle's or a label differs.
double self_test(const Folder& folder, const Network& network, Runner& runner);

}  // namespace skf
