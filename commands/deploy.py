"""`deploy`: every stage in order."""

from typing import Any

import typer

from artifacts.json_codec import to_json
from commands.flatten import flattened
from commands.screen import OutputOptions, Screen
from commands.tables import show_search, show_summary
from workflow.options import (
    BuildOptions,
    DeviceOptions,
    LimitOptions,
    QuantizeOptions,
    RedoOptions,
    RunOptions,
    RuntimeOptions,
    TimingOptions,
    TrainingOptions,
    WeightsOptions,
)


@flattened
def deploy(
    run: RunOptions,
    weights: WeightsOptions,
    training: TrainingOptions,
    quantize: QuantizeOptions,
    limit: LimitOptions,
    build: BuildOptions,
    device: DeviceOptions,
    runtime: RuntimeOptions,
    timing: TimingOptions,
    redo: RedoOptions,
    output: OutputOptions,
) -> None:
    """Do every stage this machine can do, in order.

    What is up to date is not done again. --max-drop searches for the best INT8 graphs, as
    `calibrate --search` does; what a search chose stays until other options or a new network.
    """
    from workflow.deploy import deploy as deploy_in_order

    screen = Screen.from_options(output)
    deployment = deploy_in_order(
        run, weights, training, quantize, limit, build, device, runtime, timing, redo, screen
    )
    run_directory = deployment.session.run
    more: dict[str, Any] = {}
    if deployment.search is not None:
        show_search(screen, deployment.search, deployment.searched_now)
        more["search"] = to_json(deployment.search)
    show_summary(screen, run_directory, deployment.skipped)
    if deployment.search is not None:
        screen.say("recommend", deployment.search.recommendation.reason)
    summary = deployment.summary.to_json()
    screen.finish("deploy", run=str(run_directory.path), skipped=deployment.skipped, **summary, **more)
    if not deployment.passed:
        raise typer.Exit(1)
