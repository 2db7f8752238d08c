"""The stages that write files into a run directory, each with the revision of its code.

A file is up to date only if its stage would make the same file today. So a revision counts the changes of a
stage's code that change what the stage writes, and has to be raised with such a change.
`tests/artifacts/test_stage_revisions.py` fails where a stage's sources have changed and its revision has not.

The stages that write weights stay at revision 0. Their files take hours to make, and no change of code is a
reason to throw trained weights away.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Stage:
    """One kind of work.

    Attributes:
        name: stands in the manifest.
        command: what a user calls to have the work done again.
        revision: of the code.
        module: that does the work.
    """

    name: str
    command: str
    revision: int
    module: str


_ALL = (
    Stage("train", "train", 0, "training.checkpoint_from_dataset"),
    Stage("initialise", "export", 0, "training.checkpoints"),
    Stage("import", "export --from", 0, "training.checkpoints"),
    Stage("export", "export", 1, "export.graph_from_checkpoint"),
    Stage("narrow", "export", 1, "export.graph_from_checkpoint"),
    Stage("plan", "calibrate", 1, "calibration.plan"),
    Stage("reparametrize", "calibrate", 1, "calibration.rewriting.reparametrize"),
    Stage("observe", "calibrate", 1, "calibration.ranges.ranges_from_graph"),
    Stage("quantize", "calibrate", 1, "calibration.quantizing.qdq"),
    Stage("search", "calibrate --search", 1, "calibration.searching.search"),
    Stage("block-error", "calibrate --search", 1, "calibration.searching.block_error"),
    Stage("adapt", "bundle", 1, "export.adapted_graph"),
    Stage("build", "build", 1, "runtimes.tensorrt.engine_from_onnx"),
    Stage("verify", "verify", 2, "verification.verify"),
    Stage("benchmark", "benchmark", 2, "verification.latency"),
    Stage("latency-plot", "benchmark", 1, "reporting.latency_plot"),
    Stage("analyze", "analyze", 1, "analysis.both_variants"),
    Stage("report", "deploy", 2, "reporting.report"),
)
STAGES = {stage.name: stage for stage in _ALL}
