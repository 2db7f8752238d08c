"""Which GPU of this machine an engine can run on, judged before it is loaded.

A plan of TensorRT runs on the kind of GPU that it was built on. A plan of TensorRT for RTX runs on the
compute capabilities that it was built for, if TensorRT for RTX supports them at all: its list has no 8.7,
9.0, 10.x and 11.0, so that no such engine runs on an H100, H200 or B200.
"""

from collections.abc import Sequence

from errors import UserError
from machine.gpu import Gpu
from runtimes.tensorrt.engine_card import EngineCard

# Bits of its capability check; what is newer than the last of them is supported as well.
RTX_CAPABILITIES = (75, 80, 86, 89, 120, 121)
# What an engine runs on that was built without named targets.
RTX_DEFAULT_LEAST = 80


def rtx_supports(capability: int) -> bool:
    """Whether TensorRT for RTX runs on GPUs of a compute capability, e.g. 89."""
    return capability in RTX_CAPABILITIES or capability > max(RTX_CAPABILITIES)


def fitting_gpu(card: EngineCard, gpus: Sequence[Gpu]) -> Gpu:
    """The first GPU that an engine can run on.

    Args:
        gpus: of this machine, at least one.

    Raises:
        UserError: the engine runs on none of them; says why for each.
    """
    reasons = {}
    for gpu in gpus:
        reason = misfit(card, gpu)
        if reason is None:
            return gpu
        reasons[f"GPU {gpu.index}, {gpu.name} (sm{gpu.compute_capability})"] = reason
    described = "; ".join(f"{where}: {reason}" for where, reason in reasons.items())
    raise UserError(f"no GPU here runs this {card.precision} engine ({described})", _advice(card, gpus))


def misfit(card: EngineCard, gpu: Gpu) -> str | None:
    """Why an engine cannot run on a GPU, or None if nothing speaks against it."""
    if card.builder == "rtx":
        return _misfit_of_rtx(card.targets, gpu.compute_capability)
    if (card.gpu, card.capability) != (gpu.name, gpu.compute_capability):
        return f"it was built on {card.gpu or 'an unknown GPU'} (sm{card.capability}) for that kind of GPU"
    return None


def _misfit_of_rtx(targets: tuple[str, ...], capability: int) -> str | None:
    if not rtx_supports(capability):
        return f"TensorRT for RTX has no kernels for sm{capability}"
    if targets and f"sm{capability}" not in targets:
        return f"it was built for {', '.join(targets)}"
    if not targets and capability < RTX_DEFAULT_LEAST:
        return f"it was built for sm{RTX_DEFAULT_LEAST} and later"
    return None


def _advice(card: EngineCard, gpus: Sequence[Gpu]) -> str:
    capabilities = sorted({gpu.compute_capability for gpu in gpus})
    if card.builder != "rtx":
        return "build it again here"
    if supported := [f"sm{capability}" for capability in capabilities if rtx_supports(capability)]:
        return f"build it with --target {','.join(supported)}"
    return "pip install tensorrt and build with --builder tensorrt, or use --engine ort --device cuda"
