"""Recipes, augmentation, the loop, and the checkpoints it leaves."""
