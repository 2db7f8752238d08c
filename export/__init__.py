"""Model to ONNX: fold, trace, audit, 16-bit floats."""
