"""Whether the hardware computes in bfloat16, or libraries emulate bfloat16, which is many times slower."""


def computes_in_bfloat16(device: str) -> bool:
    """Return whether a device, "cpu" or "cuda", has instructions for bfloat16; False if there is none."""
    import torch

    if device == "cuda":
        return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
