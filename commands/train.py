"""`train`: a network from a data set."""

from commands.flatten import flattened
from commands.screen import OutputOptions, Screen
from workflow.options import (
    DeviceOptions,
    ExecutionOptions,
    RedoOptions,
    RunOptions,
    SeedOptions,
    TrainingOptions,
)


@flattened
def train(
    run: RunOptions,
    training: TrainingOptions,
    execution: ExecutionOptions,
    seed: SeedOptions,
    device: DeviceOptions,
    redo: RedoOptions,
    output: OutputOptions,
) -> None:
    """Train a network, or go on with an interrupted training.

    In several processes: torchrun --nproc-per-node 2 cli.py train …
    """
    from training.processes import processes_in_environment
    from workflow.choice import session_from_options
    from workflow.weights import execution_from_options, trained

    speaks = processes_in_environment().is_first
    screen = Screen(output.as_json and speaks, output.quiet or not speaks, output.verbose)
    session = session_from_options(run, screen, redo.force, newest=False)
    card = trained(session, training, execution_from_options(execution, device.device), seed.seed)
    screen.finish("train", run=str(session.run.path), **card.training)
