from dataclasses import replace

import pytest

from errors import UserError
from runtimes.engines import ENGINES, ORIGINAL, TIMED


def test_engine_whose_library_does_not_load_is_a_missing_part() -> None:
    """A benchmark of all engines has a row for such an engine, and the others run."""
    broken = replace(ENGINES["openvino"], adapter="runtimes.no_such_runtime:NoSuchRuntime")
    with pytest.raises(UserError, match=r"the engine openvino does not load \(No module named"):
        broken.runtime()


def test_pytorch_opens_weights_and_every_other_engine_graphs() -> None:
    assert {name for name, spec in ENGINES.items() if spec.opens_weights} == {"torch", "torch-compile"}
    assert ORIGINAL.name == "torch"


def test_evaluations_of_a_graph_are_not_timed() -> None:
    assert set(ENGINES) - set(TIMED) == {"reference", "reference-rtx"}
