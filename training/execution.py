"""How a training is run, as against what it computes: device, arithmetic, memory."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch

from errors import UserError
from machine.memory import gpu_memory, host_memory

ARITHMETIC = {"fp32": "float32", "bf16": "bfloat16 autocast"}
# Of the memory there is: room for weights, data set and the workspace of convolutions.
_SHARE_FOR_ACTIVATIONS = 0.5


@dataclass(frozen=True)
class Execution:
    """Choices that change a training's speed and memory, and its weights only by rounding.

    Attributes:
        device: "cpu" or "cuda".
        arithmetic: "fp32"; "bf16", autocast of PyTorch; None for bf16 where the hardware computes in it.
        recompute: activation checkpointing; None where the activations would take more than half of
            the memory.
        compiled: torch.compile. On CPUs it gains next to nothing and takes minutes at depth 164.
        resume: go on with an interrupted training of the same options.
    """

    device: str = "cpu"
    arithmetic: str | None = None
    recompute: bool | None = None
    compiled: bool = False
    resume: bool = True

    def torch_device(self) -> torch.device:
        """The device, if it is there; UserError says what is missing."""
        if self.device == "cpu":
            return torch.device("cpu")
        if self.device == "cuda" and torch.cuda.is_available():
            return torch.device("cuda", torch.cuda.current_device())
        if self.device == "cuda":
            raise UserError(
                "PyTorch sees no CUDA device here", "use --device cpu, or install a CUDA build of torch"
            )
        raise UserError(f"unknown device '{self.device}'", "use cpu or cuda")

    def chosen_arithmetic(self) -> str:
        """A key of `ARITHMETIC`.

        Raises:
            UserError: bf16 was asked of hardware that only emulates it, many times slower than fp32.
        """
        if self.arithmetic is None:
            return "bf16" if self._has_bfloat16() else "fp32"
        if self.arithmetic not in ARITHMETIC:
            raise UserError(f"unknown arithmetic '{self.arithmetic}'", f"use {' or '.join(ARITHMETIC)}")
        if self.arithmetic == "bf16" and not self._has_bfloat16():
            raise UserError(
                f"this {self.device} computes bfloat16 in emulation only, many times slower than float32",
                "use --arithmetic fp32",
            )
        return self.arithmetic

    def autocast(self) -> AbstractContextManager[object]:
        """The chosen arithmetic as a context around the forward pass."""
        if self.chosen_arithmetic() == "fp32":
            return nullcontext()
        return torch.autocast(self.device, dtype=torch.bfloat16)

    def is_too_much(self, activations: int, sharing: int = 1) -> bool:
        """Whether so many bytes of activations call for activation checkpointing.

        Args:
            sharing: processes on this machine; each has a GPU of its own, and its part of the host's memory.
        """
        memory = gpu_memory() if self.device == "cuda" else host_memory() // sharing
        return activations > _SHARE_FOR_ACTIVATIONS * memory

    def _has_bfloat16(self) -> bool:
        if self.device == "cuda":
            return torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


ON_CPU = Execution()
