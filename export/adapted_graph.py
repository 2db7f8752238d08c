"""The adapt stage: graphs for programs that embed them, which take pixels or a fixed batch.

An adapted graph is an artifact of its own. It names the same checkpoint in its card, so that `verification`
compares it with the PyTorch original as it compares any other artifact, and gives a verdict of its own.
"""

from dataclasses import dataclass

from artifacts.records import Step
from artifacts.run_directory import RunDirectory
from data.dataset import scale_and_shift
from graphs.card import GraphCard
from graphs.onnx_file import card_of_graph, graph_from_file, write_graph
from graphs.passes import GraphPass
from graphs.static_batch import StaticBatch
from graphs.uint8_input import Uint8Input


@dataclass(frozen=True)
class Adaptation:
    """What is changed at the border of a graph; the network inside stays as it is.

    Attributes:
        pixels: uint8 pixels [batch, H, W, C] go in, and probabilities come out; see `graphs.uint8_input`.
        batch: how many pictures the graph takes at a time; 0 leaves any number. See `graphs.static_batch`.
    """

    pixels: bool = False
    batch: int = 0

    def name_of(self, source: str) -> str:
        """Return the name of the adapted file, for example model.u8.b8.onnx of model.onnx."""
        pixels = ".u8" if self.pixels else ""
        batch = f".b{self.batch}" if self.batch else ""
        return f"{source.removesuffix('.onnx')}{pixels}{batch}.onnx"

    def passes(self, card: GraphCard) -> list[GraphPass]:
        """Return the passes that adapt the graph of a card."""
        passes: list[GraphPass] = []
        if self.pixels:
            passes.append(Uint8Input(*scale_and_shift(card.mean, card.std)))
        if self.batch:
            passes.append(StaticBatch(self.batch))
        return passes


def adapted_from_graph(
    run: RunDirectory, source: str, adaptation: Adaptation, force: bool = False
) -> tuple[str, bool]:
    """Write the adapted graph of an ONNX file of a run, unless the graph is up to date.

    Args:
        run: the run directory.
        source: the name of the ONNX file in the run, for example "model.int8.cpu.onnx".
        adaptation: what is changed.
        force: True writes the file even if it is up to date.

    Returns:
        the name of the adapted file in the run, and whether anything was done.
    """
    name = adaptation.name_of(source)
    options = {"pixels": adaptation.pixels, "batch": adaptation.batch}
    step = Step("adapt", options, (source,), (name,), ("onnx", "onnx-ir"))
    if run.is_current(step) and not force:
        return name, False
    graph = graph_from_file(run.verified(source))
    card = card_of_graph(graph, source)
    with run.writing(step) as folder:
        for rewrite in adaptation.passes(card):
            rewrite(graph)
        write_graph(graph, card.adapted(adaptation.pixels, adaptation.batch), folder / name)
    return name, True
