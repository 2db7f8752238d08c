"""Data sets: images and labels in three splits, with the mean and standard deviation of each channel."""
