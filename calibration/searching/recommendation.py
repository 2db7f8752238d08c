"""What to run on this machine: INT8 if it is accurate enough and pays, or the float graph."""

from artifacts.names import MODEL, MODEL_INT8_CPU, MODEL_INT8_OPENVINO
from calibration.searching.contest import Timed
from calibration.searching.result import Recommendation

# Latencies that differ by less count as equal, because they differ as much from run to run.
SAME_SPEED = 1.03


def recommendation(
    int8: Timed, drop: float | None, best_float: Timed, max_drop: float, accurate: bool
) -> Recommendation:
    """INT8 pays if it is accurate and faster by more than `SAME_SPEED`.

    Args:
        int8: the best INT8 graph in its fastest runtime.
        drop: of the INT8 graph, in points of accuracy; None where the weights are not trained.
        best_float: the float graph in its fastest runtime.
        accurate: whether INT8 keeps to `max_drop`.
    """
    ratio = best_float.mean_ms / int8.mean_ms
    if accurate and ratio > SAME_SPEED:
        cost = (
            "no accuracy is known, the weights are not trained" if drop is None else f"drop {drop:.2f} points"
        )
        reason = (
            f"INT8 pays here: {int8.words()}, {ratio:.2f}× as fast as float, {best_float.words()}; {cost}"
        )
        artifact = MODEL_INT8_OPENVINO if int8.engine == "openvino" else MODEL_INT8_CPU
        return Recommendation(int8.engine, "int8", artifact, True, reason)
    problem = (
        f"INT8 is not faster here: {int8.words()}, float {best_float.words()}"
        if accurate
        else f"no INT8 graph that was tried keeps the drop within {max_drop:g} points (the best: {drop:.2f})"
    )
    reason = f"{problem}; use {MODEL} in {best_float.engine}"
    return Recommendation(best_float.engine, "fp32", MODEL, False, reason)
