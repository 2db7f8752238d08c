"""`--help`."""

from command_line import Skipfold


def test_help_lists_every_command_and_no_arguments_mean_help(skipfold: Skipfold) -> None:
    outcome = skipfold("--help")
    assert outcome.status == 0
    for command in (
        *("train", "analyze", "export", "calibrate", "build", "verify"),
        *("benchmark", "deploy", "predict", "doctor"),
    ):
        assert f"\n  {command} " in outcome.out
    assert skipfold().out == outcome.out
