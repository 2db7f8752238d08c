"""PyTorch, eager, float32: the original that every artifact is measured against."""

from pathlib import Path
from typing import Any

import torch

from artifacts.files import sha256_of
from artifacts.names import CHECKPOINT_CARD
from errors import UserError
from graphs.card import Batch, GraphCard
from models.checkpoint import CheckpointCard, model_from_checkpoint
from runtimes.runtime import Runtime


class TorchRuntime(Runtime):
    """Runs the unfolded network of a checkpoint; `path` is its .safetensors file."""

    name = "torch"
    supports = frozenset({("cpu", "fp32"), ("cuda", "fp32")})
    refusal = ("it is the float32 original here", "use --precision fp32, or another --engine")

    def _open(self) -> GraphCard:
        if self.device == "cuda" and not torch.cuda.is_available():
            raise UserError("PyTorch sees no CUDA device here", "use --device cpu")
        torch.set_num_threads(self.threads)
        # TF32 would make the original less exact than what is compared with it.
        torch.backends.cudnn.allow_tf32 = False
        model, card = model_from_checkpoint(self.path, self.path.with_name(CHECKPOINT_CARD))
        # The layout eager PyTorch is fastest in, so that no speed-up is owed to a slow baseline.
        self._model = model.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        return graph_card(card, self.path)

    def _infer(self, images: Batch) -> Batch:
        with torch.inference_mode():
            return self._model(torch.from_numpy(images).to(self.device)).cpu().numpy()

    def _close(self) -> None:
        del self._model

    def describe(self) -> dict[str, Any]:
        return {
            "version": torch.__version__,
            "device": torch.cuda.get_device_name() if self.device == "cuda" else "cpu",
            "threads": self.threads,
            "arithmetic": "float32, eager, channels_last",
        }


def graph_card(card: CheckpointCard, weights: Path) -> GraphCard:
    """The card of the graph that these weights are exported to."""
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
