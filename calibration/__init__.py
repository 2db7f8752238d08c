"""Ranges to scales to Q/DQ graphs."""
