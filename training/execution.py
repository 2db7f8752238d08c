"""How a training is run, which does not change what the training computes: device, arithmetic and memory."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch

from errors import UserError
from machine.bfloat16 import computes_in_bfloat16
from machine.memory import gpu_memory, host_memory
from vocabulary import Arithmetic, Device

# What cards and logs call each arithmetic.
ARITHMETIC: dict[str, str] = {Arithmetic.fp32: "float32", Arithmetic.bf16: "bfloat16 autocast"}
# The other half of the memory is for the weights, the data set and the workspace of convolutions.
_SHARE_FOR_ACTIVATIONS = 0.5


@dataclass(frozen=True)
class Execution:
    """Choices that change the speed and memory of a training, and the weights by nothing but rounding.

    Attributes:
        device: a word of `Device`.
        arithmetic: a word of `Arithmetic`; bf16 is PyTorch's autocast. None chooses bf16 if the hardware
            computes in bfloat16, otherwise fp32.
        recompute: whether to use activation checkpointing. None chooses activation checkpointing if the
            activations would take more than half of the memory.
        compiled: whether to use torch.compile, which gains next to nothing on CPUs and takes minutes at depth
            164.
        resume: whether to continue an interrupted training that has the same options.
    """

    device: str = Device.cpu
    arithmetic: str | None = None
    recompute: bool | None = None
    compiled: bool = False
    resume: bool = True

    def torch_device(self) -> torch.device:
        """Return the device as PyTorch names it, or raise UserError if the device does not exist."""
        if self.device not in tuple(Device):
            raise UserError(f"unknown device '{self.device}'", f"use {' or '.join(Device)}")
        if self.device == Device.cpu:
            return torch.device("cpu")
        if not torch.cuda.is_available():
            raise UserError(
                "PyTorch sees no CUDA device here", "use --device cpu, or install a CUDA build of torch"
            )
        return torch.device("cuda", torch.cuda.current_device())

    def chosen_arithmetic(self) -> str:
        """Return the key of `ARITHMETIC` that the training uses.

        Raises:
            UserError: the arithmetic is unknown, or bf16 was asked of hardware that only emulates bfloat16,
                which is many times slower than float32.
        """
        if self.arithmetic is None:
            return Arithmetic.bf16 if self._has_bfloat16() else Arithmetic.fp32
        if self.arithmetic not in ARITHMETIC:
            raise UserError(f"unknown arithmetic '{self.arithmetic}'", f"use {' or '.join(ARITHMETIC)}")
        if self.arithmetic == Arithmetic.bf16 and not self._has_bfloat16():
            raise UserError(
                f"this {self.device} computes bfloat16 in emulation only, many times slower than float32",
                "use --arithmetic fp32",
            )
        return self.arithmetic

    def autocast(self) -> AbstractContextManager[object]:
        """Return the chosen arithmetic as a context for the forward pass."""
        if self.chosen_arithmetic() == Arithmetic.fp32:
            return nullcontext()
        return torch.autocast(self.device, dtype=torch.bfloat16)

    def is_too_much(self, activations: int, sharing: int = 1) -> bool:
        """Return whether the activations need more than half of the memory.

        Args:
            activations: in bytes.
            sharing: the number of processes on this machine. They share the memory of the host, while each
                process has all the memory of one GPU.
        """
        memory = gpu_memory() if self.device == Device.cuda else host_memory() // sharing
        return activations > _SHARE_FOR_ACTIVATIONS * memory

    def _has_bfloat16(self) -> bool:
        return computes_in_bfloat16(self.device)


ON_CPU = Execution()
