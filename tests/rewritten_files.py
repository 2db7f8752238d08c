"""Which files of a run were written again."""

from artifacts.run_directory import RunDirectory

Stamps = dict[str, tuple[int, int]]


def stamps_of(run: RunDirectory, *names: str) -> Stamps:
    """Inode and time of change of each file.

    A stage puts a new file in the place of the former one. Its inode alone would not tell, because a file
    system gives the inode of one replaced file to the next new one.
    """
    stats = {name: (run.path / name).stat() for name in names}
    return {name: (stat.st_ino, stat.st_mtime_ns) for name, stat in stats.items()}


def rewritten(before: Stamps, run: RunDirectory) -> set[str]:
    """Names of the files that are others now than they were."""
    now = stamps_of(run, *before)
    return {name for name in before if now[name] != before[name]}
