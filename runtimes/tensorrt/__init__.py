"""Build TensorRT engines, and describe engines that are built."""
