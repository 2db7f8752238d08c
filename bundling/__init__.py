"""Bundles: verified artifacts with everything that a program elsewhere needs to run and to prove them."""
