"""Fold batch normalization into the convolution that it follows.

With running mean m and variance v and affine parameters g, b,

    BN(W * x + c) = (g / sqrt(v + eps)) (W * x + c - m) + b
                  = W' * x + c',   W' = W g / sqrt(v + eps),   c' = (c - m) g / sqrt(v + eps) + b

per output channel, up to rounding. Folding needs a convolution whose output goes to the BN alone. In a
pre-activation block that holds for every BN but the first, whose input is the skip path.

Precondition: a traced network in evaluation mode.
Postcondition: no BN is left behind a convolution that has no other reader, and each BN was folded or refused.
"""

from collections.abc import Callable
from dataclasses import dataclass

from onnx_ir.passes import InvariantError
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from graphs.passes import Pass, PassResult


@dataclass(frozen=True)
class FoldBatchnorm(Pass[fx.GraphModule]):
    """Fold every BN that can be folded in a traced network; the result names the BN layers."""

    name = "fold"

    def require_well_formed(self, graph: fx.GraphModule) -> None:
        """Let torch.fx check that the calls stand in order and that each module that is called exists."""
        graph.graph.lint()

    def kept(self, graph: fx.GraphModule) -> Callable[[fx.GraphModule], None]:
        """Return a check of the names of the network's inputs."""
        inputs = _inputs(graph)

        def require_kept(after: fx.GraphModule) -> None:
            if _inputs(after) != inputs:
                raise InvariantError(f"the network had the inputs {inputs} and now has {_inputs(after)}")

        return require_kept

    def requires(self, graph: fx.GraphModule) -> None:
        """Require evaluation mode, because a BN in training mode does not use the running statistics."""
        for node in _batchnorms(graph):
            if graph.get_submodule(str(node.target)).training:
                raise InvariantError(f"{node.target} is in training mode")

    def rewrite(self, graph: fx.GraphModule) -> PassResult:
        """Fold in order of execution, so that of two BN in a row the second one folds, too."""
        folded, refused = [], {}
        for node in _batchnorms(graph):
            if reason := _refusal(graph, node):
                refused[str(node.target)] = reason
            else:
                _fold(graph, node)
                folded.append(str(node.target))
        graph.recompile()
        return self.result(folded, refused)

    def ensures(self, graph: fx.GraphModule, result: PassResult) -> None:
        """Check that the BN that are left were refused, each for a reason that still holds."""
        for node in _batchnorms(graph):
            if node.target not in result.refused:
                raise InvariantError(f"{node.target} is left and was not refused")
            if not _refusal(graph, node):
                raise InvariantError(
                    f"{node.target} was refused and alone reads {node.args[0]}, a convolution"
                )


def _inputs(module: fx.GraphModule) -> list[str]:
    return [node.name for node in module.graph.nodes if node.op == "placeholder"]


def _batchnorms(module: fx.GraphModule) -> list[fx.Node]:
    """Return the calls of BN layers, in order of execution."""
    return [node for node in module.graph.nodes if isinstance(_module_of(module, node), nn.BatchNorm2d)]


def _refusal(module: fx.GraphModule, bn: fx.Node) -> str:
    """Return why a BN cannot be folded, or nothing if the BN can."""
    source = bn.args[0]
    assert isinstance(source, fx.Node)
    if not isinstance(_module_of(module, source), nn.Conv2d):
        return f"follows {source.name}, which is no convolution"
    if len(source.users) > 1:
        return f"{source.target} has other consumers"
    return ""


def _fold(module: fx.GraphModule, node: fx.Node) -> None:
    """Put a convolution with the BN in it in the place of the two."""
    source = node.args[0]
    assert isinstance(source, fx.Node)
    conv, bn = _module_of(module, source), _module_of(module, node)
    assert isinstance(conv, nn.Conv2d) and isinstance(bn, nn.BatchNorm2d)
    parent, _, name = str(source.target).rpartition(".")
    setattr(module.get_submodule(parent), name, fuse_conv_bn_eval(conv, bn))
    node.replace_all_uses_with(source)
    module.graph.erase_node(node)


def _module_of(module: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    """Return the layer that a node calls, or None if the node calls something else."""
    return module.get_submodule(str(node.target)) if node.op == "call_module" else None
