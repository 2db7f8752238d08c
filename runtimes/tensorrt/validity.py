"""Why an engine does not load, asked of TensorRT instead of guessed.

`Runtime.get_engine_validity` reads the header of a plan and compares it with the driver and the GPU. What it
answers are bits, of which several can be set:

     1 version   2 compute capability   4 driver   8 CUDA runtime   16 memory   32 malformed   64 CUDA error

(`EngineInvalidityDiagnostics` of TensorRT for RTX 1.7; TensorRT has the method from version 11 on.)
"""

from typing import Any

from errors import UserError

# The header that an engine begins with, where a runtime does not say its size.
_HEADER_BYTES = 64


def refuse_unfit_engine(runtime: Any, plan: bytes, name: str, gpu: str, capability: int) -> None:
    """Raise UserError where TensorRT says that a plan cannot run here; each reason comes with its fix.

    Args:
        runtime: an open `tensorrt.Runtime`. One without the method answers nothing.
        name: of the engine's file.
        gpu: name of the GPU; `capability` is its compute capability, e.g. 89.
    """
    if not hasattr(runtime, "get_engine_validity"):
        return
    header = plan[: getattr(runtime, "engine_header_size", _HEADER_BYTES)]
    validity, diagnostics = runtime.get_engine_validity(header)
    if getattr(validity, "name", str(validity)) != "INVALID":
        return
    reasons = reasons_in(int(diagnostics), capability)
    problems, fixes = zip(*reasons, strict=True)
    raise UserError(f"{name} cannot run on {gpu} (sm{capability}): {'; '.join(problems)}", "; ".join(fixes))


def reasons_in(diagnostics: int, capability: int) -> list[tuple[str, str]]:
    """Problem and fix for each bit that is set."""
    table = {
        1: ("another version of TensorRT built the engine", "build it again with the version installed here"),
        2: (
            f"it was not built for compute capability {capability / 10}",
            f"build it with --target sm{capability}",
        ),
        4: ("the NVIDIA driver is too old for it", "update the driver"),
        8: ("the CUDA runtime is too old for it", "update CUDA, which comes with PyTorch"),
        16: ("the GPU has too little memory for it", "free memory on the GPU, or build for smaller batches"),
        32: ("the file is damaged", "build it again with --force"),
        64: ("CUDA reports an error of its own", "run `nvidia-smi`, and restart what it complains about"),
    }
    known = [reason for bit, reason in table.items() if diagnostics & bit]
    if unknown := diagnostics & ~sum(table):
        known.append(
            (f"TensorRT gives an unknown reason, {unknown}", "report this with the engine's .json file")
        )
    return known or [("TensorRT gives no reason", "build it again with --force")]
