"""Exact changes of a float graph that make quantization lose less or run faster."""
