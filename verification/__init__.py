"""Numerical parity, accuracy, latency, verdict, report."""
