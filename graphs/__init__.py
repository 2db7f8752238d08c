"""ONNX files as skipfold writes them: their metadata, their skip path, their arithmetic."""
