"""Training: the recipes, the augmentation, the loop over epochs, and the checkpoints that a run holds."""
