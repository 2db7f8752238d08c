"""`doctor`: what this machine can do."""

from commands.flatten import flattened
from commands.screen import JsonOptions, Screen


@flattened
def doctor(output: JsonOptions) -> None:
    """Say what this machine can do and what is missing."""
    from workflow.doctor import capabilities

    screen = Screen(output.as_json)
    machine, tasks = capabilities()
    screen.say("machine", machine.sentence())
    screen.say("system", machine.system)
    screen.table(
        "What this machine can do",
        ["task", "able", "with, or what is missing and how to mend it"],
        [[task.task, "yes" if task.able else "no", task.answer] for task in tasks],
    )
    screen.finish("doctor", machine=machine.to_json(), capabilities=[vars(task) for task in tasks])
