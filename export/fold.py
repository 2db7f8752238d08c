"""Fold batch normalization into the convolution before it.

With running statistics m, v and affine parameters g, b,

    BN(W * x + c) = (g / sqrt(v + eps)) (W * x + c - m) + b
                  = W' * x + c',   W' = W g / sqrt(v + eps),   c' = (c - m) g / sqrt(v + eps) + b

exact but for rounding, per output channel. It applies where the convolution's output goes to the BN
alone. In a pre-activation block that holds for every BN but the first, whose input is the skip path.
"""

from typing import NamedTuple

from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


class Folded(NamedTuple):
    """Names of the BN layers that were folded, and of those that stay, each with the reason."""

    folded: list[str]
    kept: dict[str, str]


def fold_batchnorm(module: fx.GraphModule) -> Folded:
    """Fold in place, in evaluation mode.

    Args:
        module: a traced network.
    """
    folded, kept = [], {}
    for node in list(module.graph.nodes):
        bn = _module_of(module, node)
        if not isinstance(bn, nn.BatchNorm2d):
            continue
        source = node.args[0]
        conv = _module_of(module, source)
        if not isinstance(conv, nn.Conv2d):
            kept[node.target] = f"follows {source.name}, which is no convolution"
        elif len(source.users) > 1:
            kept[node.target] = f"{source.target} has other consumers"
        else:
            fused = fuse_conv_bn_eval(conv, bn)
            parent, _, name = source.target.rpartition(".")
            setattr(module.get_submodule(parent), name, fused)
            node.replace_all_uses_with(source)
            module.graph.erase_node(node)
            folded.append(node.target)
    module.recompile()
    return Folded(folded, kept)


def _module_of(module: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    return module.get_submodule(str(node.target)) if node.op == "call_module" else None
