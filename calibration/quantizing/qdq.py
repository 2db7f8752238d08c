"""The stage model.reparametrized.onnx + ranges.json -> one Q/DQ graph for each flavour.

`calibration.quantizing.quantize` says what the graphs look like.
"""

from collections.abc import Mapping
from pathlib import Path

import onnx_ir as ir

from artifacts.names import (
    MODEL_FP8_GPU,
    MODEL_FP8_RTX,
    MODEL_INT8_CPU,
    MODEL_INT8_GPU,
    MODEL_INT8_OPENVINO,
    MODEL_INT8_RTX,
    MODEL_REPARAMETRIZED,
    MODEL_REPARAMETRIZED_BN,
    RANGES,
)
from artifacts.records import Step
from artifacts.run_directory import RunDirectory
from calibration.quantizing.quantize import Quantize
from calibration.quantizing.scheme import Scheme
from calibration.ranges.ranges_from_graph import Calibrated, ranges_from_file
from errors import UserError
from graphs.card import GraphCard
from graphs.onnx_file import card_of_graph, graph_from_file, write_graph
from vocabulary import Flavour, Precision

FILES = {
    (Precision.int8, Flavour.cpu): MODEL_INT8_CPU,
    (Precision.int8, Flavour.openvino): MODEL_INT8_OPENVINO,
    (Precision.int8, Flavour.gpu): MODEL_INT8_GPU,
    (Precision.fp8, Flavour.gpu): MODEL_FP8_GPU,
    (Precision.int8, Flavour.rtx): MODEL_INT8_RTX,
    (Precision.fp8, Flavour.rtx): MODEL_FP8_RTX,
}


def qdq_from_ranges(run: RunDirectory, scheme: Scheme, force: bool = False) -> bool:
    """Write a Q/DQ graph from a reparametrized graph and ranges.json, unless it is up to date.

    Returns:
        whether anything was done.

    Raises:
        UserError: the ranges were calibrated on another network, or the scheme names a block that
            this one does not have.
    """
    file = FILES[scheme.precision, scheme.flavour]
    source = source_of(scheme)
    step = Step("quantize", scheme.to_json(), (source, RANGES), (file,), ("onnx", "numpy"))
    if run.is_current(step) and not force:
        return False
    model = graph_from_file(run.verified(source))
    card = card_of_graph(model, source)
    calibrated = ranges_from_file(run.verified(RANGES), source)
    if run.record(RANGES).inputs[source] != run.record(source).sha256:
        raise UserError(f"{run.path / RANGES} was made from another {source}", "calibrate again")
    with run.writing(step) as folder:
        write_quantized(model, card, calibrated, scheme, folder / file)
    return True


def write_quantized(
    model: ir.Model, card: GraphCard, calibrated: Mapping[str, Calibrated], scheme: Scheme, path: Path
) -> None:
    """Quantize a float32 graph in place and write the Q/DQ graph.

    Args:
        card: of the float32 graph.

    Raises:
        UserError: see `Quantize`.
    """
    result = Quantize(calibrated, scheme)(model)
    saturation = scheme.saturation if scheme.is_for_cpus else ""
    # Quantizing refuses nothing but convolutions.
    card = card.with_precision(scheme.precision, scheme.flavour, saturation, len(result.refused))
    write_graph(model, card, path)


def source_of(scheme: Scheme) -> str:
    """Return the name of the graph that a scheme quantizes, one of `ranges_from_graph.GRAPHS`."""
    return MODEL_REPARAMETRIZED_BN if scheme.flavour == Flavour.openvino else MODEL_REPARAMETRIZED
