"""The sources of the C++ library in a bundle."""

from pathlib import Path

from recorded_calls import HeardProgress

from artifacts.run_directory import RunDirectory
from vocabulary import Precision
from workflow.bundle import WrittenBundle, bundled, checked
from workflow.choice import session_from_options
from workflow.options import BundleOptions, ReceivedOptions, RunOptions, SubjectOptions
from workflow.sdk import source_files


def test_the_sources_of_the_library_are_listed_files_like_all_others(
    bundled_run: RunDirectory, written: WrittenBundle, tmp_path: Path
) -> None:
    options = BundleOptions(out=tmp_path / "out", with_sdk=True)
    session = session_from_options(RunOptions(run_dir=bundled_run.path), HeardProgress())
    bundle = bundled(session, SubjectOptions(precision=[Precision.fp32]), options)
    added = {name for name in bundle.document.files if name.startswith("sdk/")}
    assert added == set(source_files())
    assert not [name for name in written.document.files if name.startswith("sdk/")]
    assert checked(ReceivedOptions(check=tmp_path / "out")).passed
