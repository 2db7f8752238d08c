"""Ranges to scales, and float graphs to Q/DQ graphs."""
