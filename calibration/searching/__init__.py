"""Which of many ways to quantize is best on this machine."""
