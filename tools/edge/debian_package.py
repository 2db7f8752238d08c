"""Unpack a package of a later Debian release, without installing anything.

The package is read from the mirror that this machine uses, with a private list of sources, and apt checks
Debian's signature. `make edge` gets the headers of ONNX Runtime and an emulator in this way, which Debian 12
has not, or only in versions that are too old.
"""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from errors import UserError

# The release that has the packages: Debian 13.
RELEASE = "trixie"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


@dataclass(frozen=True)
class Wanted:
    """A package.

    Attributes:
        package: its name.
        by_hand: how a user gets what it holds where this fails, for the messages.
    """

    package: str
    by_hand: str


def unpack(wanted: Wanted, folder: Path) -> Path:
    """Download the package with lists and caches of its own into an empty folder, and unpack it there.

    Returns:
        the folder that stands for the root of the file system.

    Raises:
        UserError: apt is missing, knows no mirror of Debian, or fails.
    """
    options = _private_sources(wanted, folder)
    _apt(wanted, [*options, "update"], folder)
    _apt(wanted, [*options, "download", wanted.package], folder)
    (package,) = folder.glob("*.deb")
    subprocess.run(["dpkg-deb", "-x", package, folder / "unpacked"], check=True)
    return folder / "unpacked"


def _private_sources(wanted: Wanted, folder: Path) -> list[str]:
    for name in ("lists/partial", "cache/archives/partial"):
        (folder / name).mkdir(parents=True)
    sources = folder / "sources.list"
    sources.write_text(f"deb [signed-by={KEYRING}] {_debian_mirror(wanted)} {RELEASE} main\n")
    settings = {
        "Dir::Etc::SourceList": sources,
        "Dir::Etc::SourceParts": "-",
        "Dir::State::Lists": folder / "lists",
        "Dir::Cache": folder / "cache",
        "Acquire::Languages": "none",
        # The temporary folder belongs to this user, not to apt's own.
        "APT::Sandbox::User": "",
    }
    return [f"-o{name}={value}" for name, value in settings.items()]


def _debian_mirror(wanted: Wanted) -> str:
    """The mirror that this machine's own configuration names for Debian's main archive."""
    if shutil.which("apt-get") is None:
        raise UserError(f"{wanted.package} is needed, and there is no apt-get to fetch it", wanted.by_hand)
    command = ["apt-get", "indextargets", "--format", "$(ORIGIN) $(SITE) $(SUITE)", "Created-By: Packages"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    for origin, site, suite in (line.split(" ", 2) for line in listed):
        if origin == "Debian" and not suite.endswith(("-security", "-updates", "-backports")):
            return site
    raise UserError(
        f"{wanted.package} of Debian is needed, and apt knows no mirror of Debian here", wanted.by_hand
    )


def _apt(wanted: Wanted, arguments: list[str], folder: Path) -> None:
    done = subprocess.run(
        ["apt-get", "-qq", *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        last = " ".join(done.stderr.strip().splitlines()[-1:])
        raise UserError(
            f"apt-get {arguments[-1]} failed for {wanted.package} of {RELEASE}: {last}", wanted.by_hand
        )
