"""PyTorch in eager mode: the original that every artifact is measured against, and the same in 16 bits.

In 16 bits, and through torch.compile (`runtimes.torch_compile_runtime`), the same weights run faster, so that
these are the rows that an engine has to beat on the same device.
"""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from artifacts.files import sha256_of
from artifacts.names import CHECKPOINT_CARD
from errors import UserError
from graphs.card import Batch, GraphCard
from machine.bfloat16 import computes_in_bfloat16
from models.checkpoint import CheckpointCard, model_from_checkpoint
from runtimes.runtime import Runtime
from vocabulary import Device, Precision

_TYPES = {Precision.fp32: torch.float32, Precision.fp16: torch.float16, Precision.bf16: torch.bfloat16}


class TorchRuntime(Runtime):
    """Runs the unfolded network of a checkpoint; `path` is the .safetensors file of the checkpoint."""

    name = "torch"
    title = "PyTorch"
    mode = "eager"
    supports = frozenset(
        {
            (Device.cpu, Precision.fp32),
            (Device.cpu, Precision.bf16),
            (Device.cuda, Precision.fp32),
            (Device.cuda, Precision.fp16),
            (Device.cuda, Precision.bf16),
        }
    )
    refusal = (
        "PyTorch runs the weights in float32 and bfloat16, and on CUDA in float16",
        "use --precision fp32 or bf16, or another --engine",
    )

    def _open(self) -> GraphCard:
        if self.device == Device.cuda and not torch.cuda.is_available():
            raise UserError("PyTorch sees no CUDA device here", "use --device cpu")
        if self.precision == Precision.bf16 and not computes_in_bfloat16(self.device):
            raise UserError(
                f"this {self.device} computes bfloat16 in emulation only, many times slower than float32",
                "use --precision fp32",
            )
        torch.set_num_threads(self.threads)
        # TF32 keeps 10 bits of a mantissa, so the original would be less exact than the float32 artifacts.
        torch.backends.cudnn.allow_tf32 = False
        model, card = model_from_checkpoint(self.path, self.path.with_name(CHECKPOINT_CARD))
        # On CPUs PyTorch is fastest in channels_last, and a slower baseline would flatter every other engine.
        # This was not measured on GPUs.
        model = model.to(self.device, _TYPES[self.precision], memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._model = self._prepared(model)
        return graph_card_of_checkpoint(card, self.path).with_precision(self.precision)

    def _prepared(self, model: nn.Module) -> Any:
        """Return what is called with the images; an adapter may compile the network."""
        return model

    def _infer(self, images: Batch) -> Batch:
        try:
            with torch.inference_mode():
                return self._model(self._on_device(images)).float().cpu().numpy()
        except torch.OutOfMemoryError as error:
            raise UserError(
                f"the GPU has too little free memory for {self.name} at batch {len(images)}",
                "take a smaller batch, or end what else uses the GPU",
            ) from error

    def _on_device(self, images: Batch) -> torch.Tensor:
        return torch.from_numpy(images).to(self.device).to(_TYPES[self.precision])

    def device_ms(self, images: Batch) -> float | None:
        # On a CPU the whole call is the work of the device, and `infer` has timed that.
        if self.device != Device.cuda:
            return None
        self._check_images(images)
        batch = self._on_device(images)
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        with torch.inference_mode():
            # The GPU is busy with this call while the host launches the timed one, as in `EngineSession`.
            self._model(batch)
            begin.record()
            self._model(batch)
            end.record()
        end.synchronize()
        return begin.elapsed_time(end)

    def _close(self) -> None:
        del self._model

    def describe(self) -> dict[str, Any]:
        return {
            "version": torch.__version__,
            "device": torch.cuda.get_device_name() if self.device == Device.cuda else "cpu",
            "threads": self.threads,
            "arithmetic": f"{str(_TYPES[self.precision]).removeprefix('torch.')}, {self.mode}, channels_last",
        }


def graph_card_of_checkpoint(card: CheckpointCard, weights: Path) -> GraphCard:
    """Return the card of the float32 graph that a checkpoint is exported to.

    Args:
        card: the card of the checkpoint.
        weights: the .safetensors file of the checkpoint, whose sha256 the result holds.
    """
    return GraphCard(
        variant=card.model.variant,
        depth=card.model.depth,
        block=card.model.block,
        dataset=card.dataset,
        classes=card.classes,
        mean=card.mean,
        std=card.std,
        trained=card.trained,
        checkpoint=sha256_of(weights),
    )
