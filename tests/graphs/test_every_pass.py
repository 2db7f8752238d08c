"""Every pass of the project keeps the one contract.

Each case has a graph on which the pass has work, a twin on which the pass must refuse, and a graph that the
pass cannot take. An idle pass, which claims to be done and did nothing, must be caught and named.
"""

from typing import Any

import pytest
import torch
from onnx_ir.passes import PostconditionError, PreconditionError
from pass_cases import CASES, Case, traced
from torch import fx

from export.fold import FoldBatchnorm
from graphs.passes import Pass, PassResult

every_pass = pytest.mark.parametrize(("name", "case"), CASES.items(), ids=CASES)


@every_pass
def test_result_names_the_pass_and_what_was_changed(name: str, case: Case) -> None:
    graph = case.graph()
    result = case.make(graph)(graph)
    assert isinstance(result, PassResult)
    assert result.name == name
    assert len(result.changed) == case.changed == len(set(result.changed))


@every_pass
def test_twin_is_refused(name: str, case: Case) -> None:
    twin = case.twin()
    refusing = (case.make_for_twin or case.make)(twin)
    if isinstance(case.refused, set):
        result = refusing(twin)
        assert result.refused.keys() == case.refused
        assert all(result.refused.values())
        assert case.refused or not result.changed
    else:
        with pytest.raises(case.refused):
            refusing(twin)


@every_pass
def test_graph_that_a_pass_cannot_take_is_refused_with_the_name_of_the_pass(name: str, case: Case) -> None:
    graph = case.untakeable()
    wrong = (case.make_untakeable or case.make)(graph)
    with pytest.raises(PreconditionError, match=f"^pass '{name}' cannot take this graph: .*{case.told}"):
        wrong(graph)


@every_pass
def test_pass_that_does_nothing_is_caught_and_named(
    name: str, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = case.graph()
    transformation = case.make(graph)
    monkeypatch.setattr(type(transformation), "rewrite", lambda self, graph: self.result())
    with pytest.raises(PostconditionError, match=f"^pass '{name}' broke a promise: "):
        transformation(graph)


@pytest.mark.parametrize("name", [name for name in CASES if name != "fold"])
def test_pass_that_breaks_the_order_of_execution_is_caught_and_named(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = CASES[name].graph()
    transformation = CASES[name].make(graph)
    rewrite = type(transformation).rewrite

    def first_comes_last(self: Pass[Any], graph: Any) -> PassResult:
        result = rewrite(self, graph)
        node = next(iter(graph.graph))
        graph.graph.remove(node)
        graph.graph.append(node)
        return result

    monkeypatch.setattr(type(transformation), "rewrite", first_comes_last)
    with pytest.raises(PostconditionError, match=f"^pass '{name}' broke a promise: .* is not there yet"):
        transformation(graph)


def test_fold_that_loses_a_call_is_caught_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    rewrite = FoldBatchnorm.rewrite

    def without_its_layer(self: FoldBatchnorm, graph: fx.GraphModule) -> PassResult:
        result = rewrite(self, graph)
        graph.delete_submodule("pool")
        return result

    monkeypatch.setattr(FoldBatchnorm, "rewrite", without_its_layer)
    with pytest.raises(PostconditionError, match=r"^pass 'fold' broke a promise: "), torch.no_grad():
        FoldBatchnorm()(traced())
