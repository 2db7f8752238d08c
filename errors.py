"""The one error type that a user is meant to see.

`UserError` says in one line what is wrong, and in another how to fix it. `cli.py` prints the two lines.
Anything else that is raised is a bug and keeps its traceback.
"""


class UserError(Exception):
    """The usage is wrong or a part is missing; ends a command with exit status 2.

    Args:
        problem: what is wrong, naming the file, option or value.
        fix: what the user can do about it.
    """

    exit_status = 2

    def __init__(self, problem: str, fix: str) -> None:
        super().__init__(f"{problem}: {fix}")
        self.problem = problem
        self.fix = fix


class CheckFailed(UserError):
    """A check has run, and the artifact is not what it should be; ends a command with exit status 1."""

    exit_status = 1
