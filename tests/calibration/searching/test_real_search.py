"""One search with nothing in it replaced: real graphs, real runtimes, a real clock.

Which graph is fastest depends on the CPU, and so these tests ask what must hold on every CPU: that the
recommendation follows from the times beside it, and that the files are those which were timed.
"""

import json
import math
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from recorded_calls import HeardProgress, opened_runtimes
from rewritten_files import rewritten, stamps_of

from artifacts.json_codec import from_json, to_json
from artifacts.names import (
    BLOCK_ERROR,
    MODEL,
    MODEL_INT8_CPU,
    MODEL_INT8_OPENVINO,
    RANGES,
    REPARAMETRIZATION,
    SEARCH,
)
from artifacts.run_directory import RunDirectory
from calibration.plan import Plan, plan_in
from calibration.ranges.methods import Method
from calibration.searching import contest
from calibration.searching import search as search_module
from calibration.searching.recommendation import SAME_SPEED
from calibration.searching.search import chosen_plan
from graphs.card import GraphCard
from graphs.onnx_file import card_from_file
from runtimes.runtime import Runtime
from workflow.choice import Session, session_from_options
from workflow.options import LimitOptions, QuantizeOptions, RunOptions, RuntimeOptions
from workflow.stages import searched

# A runtime that is opened without a number of threads has one in these tests, see tests/conftest.py.
THREADS = 2
# Every graph is accurate enough on every CPU, because none can lose more than all of its accuracy.
MAX_DROP = 100.0
FILES = {"ort": MODEL_INT8_CPU, "openvino": MODEL_INT8_OPENVINO}
FLAVOURS = {"ort": "cpu", "openvino": "openvino"}
QUANTIZE = QuantizeOptions(saturation="proved")


@dataclass(frozen=True)
class RealSearch:
    """What one search found, and what it opened on the way."""

    session: Session
    document: dict[str, Any]
    opened: list[Runtime]
    listener: HeardProgress

    @property
    def run(self) -> RunDirectory:
        return RunDirectory(self.session.run.path)

    def timed(self, engine: str) -> list[dict[str, Any]]:
        """The candidates that the engine has a time for."""
        return [row for row in self.document["candidates"] if engine in row["latency_ms"]]


def search_once(session: Session) -> tuple[dict[str, Any], bool]:
    runtime = RuntimeOptions(threads=THREADS, allow_saturation=True)
    return searched(session, QUANTIZE, LimitOptions(MAX_DROP), runtime)


@pytest.fixture(scope="module")
def real(trained_runs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealSearch]:
    place = shutil.copytree(trained_runs["preact"], tmp_path_factory.mktemp("real") / "run")
    listener = HeardProgress()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search_module, "METHODS", (Method("minmax"), Method("percentile", 99.99)))
        patch.setattr(contest, "_SECONDS", 0.02)
        session = session_from_options(RunOptions(run_dir=Path(place)), listener)
        with pytest.MonkeyPatch.context() as watched:
            opened = opened_runtimes(watched)
            result, done = search_once(session)
        assert done
        yield RealSearch(session, to_json(result), opened, listener)


def mean_ms(times: dict[str, float]) -> float:
    return math.prod(times.values()) ** (1 / len(times))


def test_file_holds_every_candidate_and_a_time_of_each_finalist(real: RealSearch) -> None:
    document = json.loads(real.run.verified(SEARCH).read_text())
    assert document == real.document
    assert document["trained"] is True and document["max_drop"] == MAX_DROP
    on_cpu = {
        (row["reparametrization"], row["method"])
        for row in document["candidates"]
        if (row["flavour"], row["stream"]) == ("cpu", "int8")
    }
    assert len(on_cpu) == 4 * 2  # reparametrizations and methods
    for engine, flavour in FLAVOURS.items():
        assert real.timed(engine)
        assert {row["flavour"] for row in real.timed(engine)} == {flavour}
    times = [*document["float_ms"].values()]
    times += [ms for row in document["candidates"] for ms in row["latency_ms"].values()]
    assert document["float_ms"].keys() == FLAVOURS.keys()
    assert all(list(ms) == ["1", "32"] and all(value > 0 for value in ms.values()) for ms in times)
    assert all(-100 <= row["drop"] <= 100 for row in document["candidates"] if row["latency_ms"])
    assert all(row["snr_db"] > 0 for row in document["candidates"])


def test_recommendation_follows_from_the_times(real: RealSearch) -> None:
    int8 = [
        (mean_ms(row["latency_ms"][engine]), engine, row) for engine in FLAVOURS for row in real.timed(engine)
    ]
    fastest = min(ms for ms, _, _ in int8)
    as_fast = [entry for entry in int8 if entry[0] <= fastest * SAME_SPEED]
    ms, engine, row = max(as_fast, key=lambda entry: (entry[2]["snr_db"], -entry[0]))
    float_ms, float_engine = min((mean_ms(times), name) for name, times in real.document["float_ms"].items())
    advice = real.document["recommendation"]
    if float_ms > ms * SAME_SPEED:
        expected = (True, engine, "int8", FILES[engine])
    else:
        expected = (False, float_engine, "fp32", MODEL)
    assert (advice["int8_pays"], advice["engine"], advice["precision"], advice["artifact"]) == expected
    best_of_flavour = real.document["chosen"][FLAVOURS[engine]]
    assert best_of_flavour == row | {"latency_ms": {}}


def test_graphs_in_the_run_are_made_by_the_chosen_plan(real: RealSearch) -> None:
    plan = from_json(Plan, real.document["choice"])
    assert plan == plan_in(real.run) == chosen_plan(real.run)
    assert plan.saturation == QUANTIZE.saturation
    ranges = json.loads(real.run.verified(RANGES).read_text())
    assert Method.from_options(**ranges["method"]) == plan.method
    passes = json.loads(real.run.verified(REPARAMETRIZATION).read_text())
    assert tuple(entry["name"] for entry in passes) == plan.passes
    for engine, name in FILES.items():
        chosen = real.document["chosen"][FLAVOURS[engine]]
        options = real.run.record(name).options
        assert (options["stream"], options["float_blocks"]) == (chosen["stream"], chosen["float_blocks"])
        card: GraphCard = card_from_file(real.run.verified(name))
        assert card.saturation == QUANTIZE.saturation


def test_every_timed_runtime_is_opened_as_it_was_asked_for(real: RealSearch) -> None:
    """The file of a finalist is numbered, as candidate0.ort.onnx is; that of a mere trial is not."""
    finalists = [each for each in real.opened if each.path.match("candidate[0-9]*.onnx")]
    floats = [each for each in real.opened if each.path.name == MODEL]
    for runtimes, precision in ((finalists, "int8"), (floats, "fp32")):
        assert {each.name for each in runtimes} == FLAVOURS.keys()
        assert {each.precision for each in runtimes} == {precision}
        assert {each.threads for each in runtimes} == {THREADS}
        assert {each.allow_saturation for each in runtimes} == {True}


def test_search_reports_that_it_is_getting_on(real: RealSearch) -> None:
    assert {
        *("float logits", "candidates", "timing batch 1", "timing batch 32"),
        *("blocks, cpu, int8 stream", "writing quantized graphs"),
    } <= set(real.listener.loops)


def test_second_search_is_up_to_date_and_opens_nothing(
    real: RealSearch, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = stamps_of(real.run, SEARCH)
    opened = opened_runtimes(monkeypatch)
    result, done = search_once(real.session)
    assert (to_json(result), done) == (real.document, False)
    assert opened == []
    assert rewritten(before, real.run) == set()


def test_forced_search_is_done_again_with_all_that_follows_from_it(
    real: RealSearch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The smallest grid there is, because nothing is asked of what it finds."""
    monkeypatch.setattr(search_module, "METHODS", (Method("minmax"),))
    monkeypatch.setattr(search_module, "reparametrizations", lambda model: [()])
    run = real.run
    names = (SEARCH, BLOCK_ERROR, RANGES, REPARAMETRIZATION, *FILES.values())
    before = stamps_of(run, *names)
    session = session_from_options(RunOptions(run_dir=run.path), force=True)
    assert search_once(session)[1]
    assert rewritten(before, run) == before.keys()
