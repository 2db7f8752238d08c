"""The run directory: file names, manifest, hashes, atomic writes, up-to-date checks."""
