"""One protocol, one adapter a runtime, and the building of TensorRT engines."""
