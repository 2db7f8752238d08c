"""Export a trained network to ONNX: trace it, fold BN, audit the skip path, and narrow to 16 bits."""
