"""What the tensors of a float graph hold, and the range that is kept of each."""
