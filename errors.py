"""The one error type a user is meant to see.

`UserError` says what is wrong and how to fix it, in one line each; only `cli.py` catches it.
Anything else that is raised is a bug and keeps its traceback.
"""


class UserError(Exception):
    """Wrong usage or a missing part; ends a command with exit status 2.

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
    """A check ran and the artifact is not what it should be; ends a command with exit status 1."""

    exit_status = 1
