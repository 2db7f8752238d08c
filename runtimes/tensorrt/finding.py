"""What a check of a graph found, before anything was built."""

from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with a graph.

    Attributes:
        node: name of the node, or what else the finding is about.
        problem: what TensorRT does with the node, or does not do.
        fix: how to mend the graph.
    """

    node: str
    problem: str
    fix: str

    def to_json(self) -> dict[str, str]:
        """The fields as JSON values."""
        return asdict(self)
