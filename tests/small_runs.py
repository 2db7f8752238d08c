"""Two steps of a made-up run, and what a run directory holds."""

from pathlib import Path

from artifacts.records import Step
from artifacts.run_directory import RunDirectory

WEIGHTS = Step("train", {"seed": 0}, (), ("weights", "log"))
GRAPH = Step("export", {"opset": 17, "shape": (1, 3)}, ("weights",), ("graph",), ("numpy",))


def publish(run: RunDirectory, step: Step, content: str = "first") -> None:
    with run.writing(step) as folder:
        for name in step.outputs:
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(f"{name} {content}")


def snapshot(path: Path) -> dict[str, bytes | None]:
    """Return the content of every file below `path` except the lock, and None for every folder."""
    return {
        str(entry.relative_to(path)): entry.read_bytes() if entry.is_file() else None
        for entry in path.rglob("*")
        if entry.name != ".lock"
    }


def made_run(path: Path) -> RunDirectory:
    """Return a run in which WEIGHTS is done and then GRAPH, which reads the weights."""
    run = RunDirectory(path)
    publish(run, WEIGHTS)
    publish(run, GRAPH)
    return run
