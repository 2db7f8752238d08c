"""`build`: what it says of an engine, and the options that decide one."""

import json

import pytest
from command_line import DEPTH, Skipfold, assert_refused, needs_rtx, snapshot, without_gpu

from artifacts.run_directory import RunDirectory

BUILD = ("build", *DEPTH, "--builder", "rtx")


@needs_rtx
def test_an_engine_is_described_by_its_plan(skipfold: Skipfold, preact_run: RunDirectory) -> None:
    outcome = skipfold(*BUILD, "--precision", "int8", "--target", "sm89")
    assert outcome.status == 0
    assert "engines/int8.rtx-sm89.engine, 4 float16 and 5 int8 convolutions" in outcome.out
    assert "13 kernels move 13.4 MB at batch 32" in outcome.out
    outcome = skipfold(*BUILD, "--precision", "int8", "--target", "sm89", "--verbose")
    assert "up to date: engines/int8.rtx-sm89.engine" in outcome.out
    assert "the types of the final layers, listed by the builder" in outcome.out
    lines = outcome.out.splitlines()
    (projection,) = (line for line in lines if line.startswith("stage2.0.projection "))
    assert "correlation" in projection and "int8 > float16" in projection
    assert any("13 kernels" in line for line in lines)


@needs_rtx
def test_json_is_one_document_with_every_engine(skipfold: Skipfold, preact_run: RunDirectory) -> None:
    outcome = skipfold(
        *BUILD, "--precision", "fp16", "--precision", "int8", "--target", "sm89", "-v", "--json"
    )
    assert outcome.status == 0
    fp16, int8 = outcome.document["engines"]
    assert (fp16["convolutions"], int8["convolutions"]) == ({"float16": 9}, {"float16": 4, "int8": 5})
    assert [entry["batch"] for entry in int8["traffic"]] == [1, 32]
    assert int8["traffic"][1]["read_mb"] + int8["traffic"][1]["written_mb"] > 13
    assert int8["warnings"] == {}
    assert int8["batches"] == [[1, 1, 1], [1, 32, 128]]
    assert json.loads((preact_run.path / "engines/int8.rtx-sm89.json").read_text()) == {
        name: value for name, value in int8.items() if name != "file"
    }


@needs_rtx
def test_batches_are_the_profiles_of_the_engine(skipfold: Skipfold, preact_run: RunDirectory) -> None:
    options = ("--batches", "8:16:64", "--batches", "1:2:4", "--tf32", "--workspace", "1G")
    outcome = skipfold(*BUILD, "--precision", "fp32", *options, "--json")
    assert outcome.status == 0
    (engine,) = outcome.document["engines"]
    assert engine["batches"] == [[8, 16, 64], [1, 2, 4]]
    assert [(entry["batch"], entry["profile"]) for entry in engine["traffic"]] == [(1, 1), (32, 0)]
    assert (engine["options"]["tf32"], engine["options"]["workspace"]) == (True, 2**30)


@needs_rtx
@without_gpu
@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--batches", "4:2:1"), ("--batches must be MIN:OPT:MAX", "'4:2:1'")),
        (("--workspace", "much"), ("--workspace must be", "'much'", "512M")),
        (("--optimization-level", "6"), ("--optimization-level must be 0 to 5, got 6",)),
        (("--optimization-level", "3"), ("--optimization-level cannot be used", "same plan at every level")),
        (("--timing-cache", "t.cache"), ("--timing-cache cannot be used", "keeps no timings")),
        (("--version-compatible",), ("--version-compatible cannot be used", "lean runtime")),
        (("--hardware-compatible", "ampere"), ("--hardware-compatible cannot be used", "--target")),
        (("--hardware-compatible", "turing"), ("--hardware-compatible",)),
        (("--refit",), ("--refit cannot be used", "GPU")),
        (("--strip",), ("--strip cannot be used", "GPU")),
        (("--precision", "int8", "--target", "sm75"), ("sm75 has no int8", "would run in float16", "fp16")),
        (
            ("--precision", "int8", "--target", "sm75,sm86,sm89"),
            ("sm75 has no int8", "build sm75 in fp16, apart from int8 with --target sm86,sm89"),
        ),
    ],
)
def test_what_cannot_be_built_is_refused_with_the_reason(
    skipfold: Skipfold, preact_run: RunDirectory, options: tuple[str, ...], words: tuple[str, ...]
) -> None:
    before = snapshot(preact_run.path)
    assert_refused(skipfold(*BUILD, *options), *words)
    assert snapshot(preact_run.path) == before


@needs_rtx
def test_turing_gets_the_precisions_that_it_has(skipfold: Skipfold, preact_run: RunDirectory) -> None:
    outcome = skipfold(*BUILD, "--target", "sm75", "--json")
    assert [engine["file"] for engine in outcome.document["engines"]] == ["engines/fp16.rtx-sm75.engine"]
