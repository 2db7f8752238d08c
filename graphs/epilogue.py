"""Which convolution's kernel writes a tensor.

Compilers run what follows a convolution in the kernel of that convolution, as its epilogue: the addition of
the skip path, BN and ReLU, as long as no other node reads the values between. A value that several nodes
read ends the chain, because that value has to be written to memory.
"""

import onnx_ir as ir

_IN_EPILOGUE = ("Add", "BatchNormalization", "Relu")


def convolutions_that_write(value: ir.Value) -> list[ir.Node]:
    """The convolutions in whose epilogue a value may come about; empty if another kernel has to write it.

    They are two where an addition joins a projection and the last convolution of the residual branch: one of
    the two kernels then adds what the other wrote.
    """
    node = value.producer()
    if node is None or node.op_type == "Conv":
        return [node] if node is not None else []
    return [
        conv
        for operand in _activations_of(node)
        if len(operand.uses()) == 1
        for conv in convolutions_that_write(operand)
    ]


def end_of_epilogue(conv: ir.Node) -> ir.Value:
    """What the kernel of a convolution writes if all that can be is in its epilogue."""
    value = conv.outputs[0]
    readers = [node for node, _ in value.uses()]
    while len(readers) == 1 and readers[0].op_type in _IN_EPILOGUE:
        value = readers[0].outputs[0]
        readers = [node for node, _ in value.uses()]
    return value


def is_read_by_convolutions_alone(value: ir.Value) -> bool:
    """Whether nothing but convolutions reads a value, so that codes of the value are enough."""
    return {node.op_type for node, _ in value.uses()} == {"Conv"}


def _activations_of(node: ir.Node) -> list[ir.Value]:
    """The operands of a node of an epilogue that are no parameters; none of any other node."""
    if node.op_type not in _IN_EPILOGUE:
        return []
    operands = node.inputs if node.op_type == "Add" else node.inputs[:1]
    return [operand for operand in operands if operand is not None]
