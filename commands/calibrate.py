"""`calibrate`: ranges, and the INT8 and FP8 graphs."""

from typing import Any

from artifacts.json_codec import to_json
from commands.flatten import flattened
from commands.screen import OutputOptions, Screen
from commands.tables import show_search
from errors import UserError
from workflow.options import CpuOptions, QuantizeOptions, RedoOptions, RunOptions, SearchOptions


@flattened
def calibrate(
    run: RunOptions,
    quantize: QuantizeOptions,
    search: SearchOptions,
    runtime: CpuOptions,
    redo: RedoOptions,
    output: OutputOptions,
) -> None:
    """Collect ranges and write the INT8 and FP8 graphs."""
    from calibration.quantizing.qdq import FILES
    from workflow.choice import session_from_options
    from workflow.stages import calibrated, plan_from_options, refuse_beside_search, searched

    screen = Screen.from_options(output)
    if search.search:
        refuse_beside_search(quantize)
    else:
        _refuse_options_of_a_search(search, runtime)
    session = session_from_options(run, screen, redo.force)
    more: dict[str, Any] = {}
    if search.search:
        result, done = searched(session, quantize, search, runtime)
        show_search(screen, result, done)
        more["search"] = to_json(result)
    else:
        calibrated(session, plan_from_options(quantize))
    screen.finish("calibrate", run=str(session.run.path), files=list(FILES.values()), **more)


def _refuse_options_of_a_search(search: SearchOptions, runtime: CpuOptions) -> None:
    if search.max_drop is not None:
        raise UserError("--max-drop is the limit of a search", "add --search")
    if runtime.allow_saturation:
        raise UserError("--allow-saturation is for what a search runs", "add --search")
    if runtime.threads is not None:
        raise UserError("--threads is for what a search times", "add --search")
