"""`sdk`: where the C++ library lies."""

import sys
from dataclasses import dataclass

from commands.flatten import flattened
from workflow.options import switch


@dataclass(frozen=True)
class SdkOptions:
    """Which folder is printed."""

    cmake_dir: bool = switch("--cmake-dir", help="The folder for CMake: -Dskipfold_DIR=FOLDER.")


@flattened
def sdk(options: SdkOptions) -> None:
    """Print the folder of the C++ library's sources, or the one for CMake."""
    from workflow.sdk import cmake_folder, sources

    folder = cmake_folder() if options.cmake_dir else sources()
    # Nothing else is printed, because a shell puts the line into another command.
    sys.stdout.write(f"{folder}\n")
