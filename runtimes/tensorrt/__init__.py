"""Building TensorRT engines, and what is known of a built one."""
