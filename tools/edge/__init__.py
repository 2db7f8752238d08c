"""What `make edge` does: it prepares a machine, makes the fixtures, builds and tests edge/."""
