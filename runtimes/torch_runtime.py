"""PyTorch in float32 and eager mode: the original that every artifact is measured against."""

from pathlib import Path
from typing import Any

import torch

from artifacts.files import sha256_of
from artifacts.names import CHECKPOINT_CARD
from errors import UserError
from graphs.card import Batch, GraphCard
from models.checkpoint import CheckpointCard, model_from_checkpoint
from runtimes.runtime import Runtime
from vocabulary import Device, Precision


class TorchRuntime(Runtime):
    """Runs the unfolded network of a checkpoint; `path` is the .safetensors file of the checkpoint."""

    name = "torch"
    title = "PyTorch"
    supports = frozenset({(Device.cpu, Precision.fp32), (Device.cuda, Precision.fp32)})
    refusal = ("PyTorch runs the float32 original", "use --precision fp32, or another --engine")

    def _open(self) -> GraphCard:
        if self.device == Device.cuda and not torch.cuda.is_available():
            raise UserError("PyTorch sees no CUDA device here", "use --device cpu")
        torch.set_num_threads(self.threads)
        # TF32 keeps 10 bits of a mantissa, so the original would be less exact than the float32 artifacts.
        torch.backends.cudnn.allow_tf32 = False
        model, card = model_from_checkpoint(self.path, self.path.with_name(CHECKPOINT_CARD))
        # Eager PyTorch is fastest in channels_last, and a slower baseline would flatter every other engine.
        self._model = model.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        return graph_card_of_checkpoint(card, self.path)

    def _infer(self, images: Batch) -> Batch:
        with torch.inference_mode():
            return self._model(torch.from_numpy(images).to(self.device)).cpu().numpy()

    def _close(self) -> None:
        del self._model

    def describe(self) -> dict[str, Any]:
        return {
            "version": torch.__version__,
            "device": torch.cuda.get_device_name() if self.device == Device.cuda else "cpu",
            "threads": self.threads,
            "arithmetic": "float32, eager, channels_last",
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
