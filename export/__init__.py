"""Model to ONNX: fold, trace, audit, half precision."""
