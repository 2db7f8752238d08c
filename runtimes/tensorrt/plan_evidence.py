"""Where the final layers of a plan are learnt from, and what is said where they cannot be learnt.

TensorRT for RTX lists them in its log and needs no GPU for that. TensorRT tells them through the inspector
of an engine that was loaded again, which the GPU that it was built on makes possible.
"""

from dataclasses import dataclass
from types import ModuleType
from typing import Any

from runtimes.tensorrt.layers_from_inspector import layers_from_inspector
from runtimes.tensorrt.layers_from_message import layers_from_message
from runtimes.tensorrt.package import Builder
from runtimes.tensorrt.plan_layers import Layer

PLAN, INSPECTOR, NONE = "plan", "inspector", "none"


@dataclass(frozen=True)
class Evidence:
    """The final layers of a plan.

    Attributes:
        source: "plan" (the builder's list of final layers), "inspector" (of the engine, loaded again) or
            "none".
        reason: why there are no layers; empty where there are.
    """

    source: str
    layers: tuple[Layer, ...] = ()
    reason: str = ""

    @property
    def sentence(self) -> str:
        """What the precision of the plan is proved by, in words that may follow "proof: "."""
        if self.source == NONE:
            return f"none, because {self.reason}"
        where = "listed by the builder" if self.source == PLAN else "told by the engine inspector"
        return f"the types of the final layers, {where}"


def evidence_of(builder: Builder, trt: ModuleType, logger: Any, plan: bytes) -> Evidence:
    """Learn the layers of a plan that was just built.

    Args:
        logger: the `collecting_logger` of the build.

    Raises:
        CheckFailed: there is a list of layers, and something in it is not known.
    """
    if not builder.ahead_of_time:
        return _inspected(trt, logger, plan)
    if logger.layers is None:
        return Evidence(NONE, reason=f"{builder.title} {builder.version} lists no final layers in its log")
    return Evidence(PLAN, layers_from_message(logger.layers))


def _inspected(trt: ModuleType, logger: Any, plan: bytes) -> Evidence:
    runtime = trt.Runtime(logger)
    # A version-compatible plan brings code of its own; this one was built a moment ago by this process.
    runtime.engine_host_code_allowed = True
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        errors = "; ".join(logger.errors) or "no reason was given"
        return Evidence(NONE, reason=f"the plan cannot be loaded here ({errors})")
    inspector = engine.create_engine_inspector()
    document = inspector.get_engine_information(trt.LayerInformationFormat.JSON)
    return Evidence(INSPECTOR, layers_from_inspector(document))
