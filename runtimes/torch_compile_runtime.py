"""PyTorch through torch.compile."""

from typing import Any

import torch

# torch.compile would import these when it is called, and a benchmark would count that as loading the weights.
import torch._dynamo
import torch._inductor.compile_fx
from torch import nn

from errors import UserError
from graphs.card import Batch
from runtimes.torch_runtime import TorchRuntime
from vocabulary import Device

# TorchDynamo gives a network up after 8 compilations by default, and a sweep may have more batch sizes.
_MOST_BATCH_SIZES = 256


class TorchCompileRuntime(TorchRuntime):
    """Runs the network through torch.compile, which compiles a graph of fixed shapes for each batch size.

    The first call at a batch size compiles, which takes seconds to minutes. On CUDA the compiled kernels are
    captured in CUDA graphs ("reduce-overhead"), because launching them one by one takes longer than they run
    at small batch sizes.
    """

    name = "torch-compile"
    title = "torch.compile"
    mode = "torch.compile"
    #: What compiles the graphs that TorchDynamo captures.
    backend = "inductor"

    def _prepared(self, model: nn.Module) -> Any:
        self._from_cache: dict[int, bool] = {}
        return torch.compile(  # type: ignore[call-overload]
            model,
            backend=self.backend,
            # With `fullgraph`, what cannot be compiled is an error; PyTorch would run it in eager mode.
            fullgraph=True,
            dynamic=False,
            mode="reduce-overhead" if self.device == Device.cuda else None,
            recompile_limit=_MOST_BATCH_SIZES,
            # Another precision of the same network would otherwise count as a compilation of this one.
            isolate_recompiles=True,
        )

    def _infer(self, images: Batch) -> Batch:
        hits = _cache_hits()
        try:
            logits = super()._infer(images)
        except torch._dynamo.exc.TorchDynamoException as error:
            raise UserError(
                f"torch.compile does not compile the network ({_beginning(error)})",
                "install a C++ compiler, for example g++, which a CPU needs for that, or use --engine torch",
            ) from error
        self._from_cache.setdefault(len(images), _cache_hits() > hits)
        return logits

    def describe(self) -> dict[str, Any]:
        compiled = {
            str(batch): "from the cache of an earlier compilation" if cached else "anew"
            for batch, cached in self._from_cache.items()
        }
        return super().describe() | {"compiled": compiled}


def _cache_hits() -> int:
    """Return how many graphs PyTorch took from its cache on the disk, in this process."""
    return torch._dynamo.utils.counters["inductor"]["fxgraph_cache_hit"]


def _beginning(error: Exception) -> str:
    """The first two lines of an error; the first one may say no more than which backend failed."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:2]) or type(error).__name__
