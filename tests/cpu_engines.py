"""The engines and precisions that run on a CPU, without PyTorch, which they are compared with."""

ON_CPU = [
    ("ort", "fp32"),
    ("ort", "int8"),
    ("openvino", "fp32"),
    ("openvino", "int8"),
    ("reference", "fp32"),
    ("reference", "fp16"),
    ("reference", "bf16"),
    ("reference", "int8"),
    ("reference", "fp8"),
    ("reference-rtx", "int8"),
    ("reference-rtx", "fp8"),
]
