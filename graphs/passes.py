"""The contract of every rewrite of a graph: what a pass takes, what a pass promises, and what a pass returns.

A pass changes a graph in place, and calling the pass runs these steps:

    (1) precondition    the graph is well formed, and the pass can take this graph (`requires`)
    (2) rewrite         the work; a part that the pass leaves as it was is refused, with the reason
    (3) postcondition   the graph is still well formed, what every pass must keep was kept (`kept`), and
                        what this pass promises holds (`ensures`)

A condition that does not hold and an error inside a pass raise an error that names the pass, because the
graph alone does not tell which of several passes broke the graph. `UserError` leaves (1) and (2) as it is:
a weight that float16 cannot hold, for example, is no fault of the pass. In (3) there is no such excuse.

The steps are those of `onnx_ir.passes.PassBase`, and the errors are onnx_ir's, too. That base class itself
does not fit, for three reasons. Its `ensures` is not told what a pass refused, so that "no BN is left but
those refused" cannot be written there. An error inside its `call` does not get the name of the pass. And
it takes an `onnx_ir.Model`, while folding runs on a `torch.fx.GraphModule`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import ClassVar, Generic, TypeVar

import onnx_ir as ir
from onnx_ir.passes import InvariantError, PassError, PostconditionError, PreconditionError

from errors import UserError
from graphs.conditions import interface_of, require_ordered, require_unique_names, unread_initializers

Subject = TypeVar("Subject")


@dataclass(frozen=True)
class PassResult:
    """A result tells what one pass did to one graph.

    Attributes:
        name: name of the pass.
        changed: names of the nodes or values that the pass rewrote, in order of execution.
        refused: names of the nodes or values that the pass left as they were, each with the reason.
    """

    name: str
    changed: tuple[str, ...] = ()
    refused: Mapping[str, str] = field(default_factory=dict)


class Pass(ABC, Generic[Subject]):
    """A pass rewrites a graph in place; `GraphPass` is the base of the passes over ONNX graphs.

    Attributes:
        name: what results and errors call the pass.
    """

    name: ClassVar[str]

    def __call__(self, graph: Subject) -> PassResult:
        """Check, rewrite in place, and check again.

        Raises:
            PreconditionError: the graph is not one that the pass takes.
            PassError: the rewrite failed.
            PostconditionError: the rewrite did not leave the graph as promised.
            UserError: the rewrite is impossible for a reason that a user can do something about.
        """
        with self._named(PreconditionError, "cannot take this graph", excused=UserError):
            self.require_well_formed(graph)
            self.requires(graph)
            require_kept = self.kept(graph)
        with self._named(PassError, "failed", excused=UserError):
            result = self.rewrite(graph)
        with self._named(PostconditionError, "broke a promise"):
            _require_one_verdict(result)
            self.require_well_formed(graph)
            require_kept(graph)
            self.ensures(graph, result)
        return result

    @abstractmethod
    def require_well_formed(self, graph: Subject) -> None:
        """Raise InvariantError where no pass can work on a graph; this runs before and after every pass."""

    @abstractmethod
    def kept(self, graph: Subject) -> Callable[[Subject], None]:
        """Look at a graph before the rewrite, and return the check of what the rewrite must keep."""

    @abstractmethod
    def requires(self, graph: Subject) -> None:
        """Raise InvariantError where the pass cannot take a graph: the precondition."""

    @abstractmethod
    def rewrite(self, graph: Subject) -> PassResult:
        """Rewrite a graph in place."""

    @abstractmethod
    def ensures(self, graph: Subject, result: PassResult) -> None:
        """Raise InvariantError where a rewritten graph is not as promised: the postcondition."""

    def result(self, changed: Iterable[str] = (), refused: Mapping[str, str] | None = None) -> PassResult:
        """Return the result of this pass."""
        return PassResult(self.name, tuple(changed), dict(refused or {}))

    @contextmanager
    def _named(
        self, kind: type[Exception], what: str, excused: type[Exception] | tuple[()] = ()
    ) -> Iterator[None]:
        """Turn an error into one that names this pass; an error of a pass inside this one has its name."""
        try:
            yield
        except (PreconditionError, PassError, PostconditionError):
            raise
        except Exception as error:
            if isinstance(error, excused):
                raise
            raise kind(f"pass '{self.name}' {what}: {error}") from error


class GraphPass(Pass[ir.Model]):
    """A pass over an ONNX graph rewrites an `onnx_ir.Model`.

    Before and after each of these passes the nodes stand in an order in which they can be executed, so that
    there is no cycle either, and no two values have one name. Each pass gives the graph's inputs and outputs
    the names, types and shapes that it promised, which are those before unless the pass says otherwise, and
    leaves no initializer behind that nothing reads any more.
    """

    def require_well_formed(self, graph: ir.Model) -> None:
        """Require an order of execution, and names that are given once."""
        require_ordered(graph)
        require_unique_names(graph)

    def kept(self, graph: ir.Model) -> Callable[[ir.Model], None]:
        """Return a check of inputs and outputs, and of initializers that nothing reads any more."""
        interface, unread = self.interface_after(graph), unread_initializers(graph)

        def require_kept(after: ir.Model) -> None:
            if interface_of(after) != interface:
                raise InvariantError(
                    f"the graph should have {', '.join(interface)} and has {', '.join(interface_of(after))}"
                )
            if left := sorted(unread_initializers(after) - unread):
                raise InvariantError(f"nothing reads the initializer {', '.join(left)} any more")

        return require_kept

    def interface_after(self, graph: ir.Model) -> tuple[str, ...]:
        """Return the inputs and outputs that a graph has to have after the rewrite.

        A pass whose purpose is another input or output overrides this.
        """
        return interface_of(graph)


def _require_one_verdict(result: PassResult) -> None:
    if both := sorted(set(result.changed) & set(result.refused)):
        raise InvariantError(f"{', '.join(both)} was changed and refused")
