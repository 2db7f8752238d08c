"""`train`: data that cannot be read, and weights that must not be replaced."""

from pathlib import Path

from command_line import DEPTH, Skipfold, assert_refused, snapshot, write_picture_folders

from artifacts.run_directory import RunDirectory


def test_a_truncated_parquet_file(skipfold: Skipfold, tmp_path: Path) -> None:
    for split in ("train", "test"):
        (tmp_path / f"{split}-00000-of-00001.parquet").write_bytes(b"PAR1 and then nothing")
    outcome = skipfold("train", "--dataset", "cifar10", "--data-dir", tmp_path)
    assert_refused(outcome, "train-00000-of-00001.parquet", "cannot be read as parquet")
    assert not (tmp_path / "runs").exists()


def test_a_broken_picture_in_a_folder_of_classes(skipfold: Skipfold, tmp_path: Path) -> None:
    write_picture_folders(tmp_path / "pictures")
    (tmp_path / "pictures" / "dark" / "3.png").write_bytes(b"\x89PNG and then nothing")
    outcome = skipfold("train", "--dataset", "imagefolder", "--data-dir", tmp_path / "pictures")
    assert_refused(outcome, "3.png is not a readable image")


def test_trained_weights_are_not_replaced_unasked(skipfold: Skipfold, preact_run: RunDirectory) -> None:
    before = snapshot(preact_run.path)
    assert_refused(skipfold("train", *DEPTH, "--epochs", 1), "other trained weights", "--force")
    assert snapshot(preact_run.path) == before
    assert skipfold("train", *DEPTH, "--epochs", 1, "--force").status == 0
