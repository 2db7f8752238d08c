from pathlib import Path

import pytest

from artifacts.names import MODEL
from calibration.quantizing.scheme import Scheme
from calibration.ranges.methods import Method
from calibration.searching import contest
from calibration.searching.contest import Timed, timed_in_turns
from calibration.searching.trials import Candidate, Trials
from data.dataset import Dataset
from graphs.onnx_file import card_from_file, card_of_graph, graph_from_file
from runtimes import timing


def test_mean_counts_every_batch_size_the_same() -> None:
    found = Timed("ort", None, {1: 2.0, 32: 8.0})
    assert found.mean_ms == pytest.approx(4)
    assert found.words() == "ort 2.00/8.00 ms"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "ROUNDS", 1)
    monkeypatch.setattr(contest, "BATCHES", (1, 2))
    monkeypatch.setattr(contest, "_SECONDS", 0.001)


@pytest.fixture(scope="module")
def path(trained_runs: dict[str, Path]) -> Path:
    return trained_runs["preact"] / MODEL


@pytest.fixture(scope="module")
def trials(path: Path, digits: Dataset) -> Trials:
    model = graph_from_file(path)
    return Trials(model, card_of_graph(model, path), digits)


@pytest.mark.usefixtures("quick")
def test_every_runtime_times_every_graph(trials: Trials, path: Path, tmp_path: Path) -> None:
    """With a block in float and a float stream, which the runtimes must run just so."""
    candidates = [
        Candidate((), Method("minmax"), Scheme("cpu", stream=stream, float_blocks=blocks))
        for stream in ("int8", "fp32")
        for blocks in ((), ("stage2.0.add",))
    ]
    found = timed_in_turns(trials, candidates, path, tmp_path, threads=1)
    assert {(entry.engine, entry.candidate) for entry in found} == {
        (engine, own) for engine in ("ort", "openvino") for own in [*candidates, None]
    }
    assert all(list(entry.ms) == [1, 2] and entry.mean_ms > 0 for entry in found)
    cards = [card_from_file(file) for file in sorted(tmp_path.glob("candidate*.onnx"))]
    assert [card.float_convolutions > 0 for card in cards] == [False, False, True, True] * 2


@pytest.mark.usefixtures("quick")
def test_graph_of_two_candidates_is_timed_once(trials: Trials, path: Path, tmp_path: Path) -> None:
    """OpenVINO's graph keeps its BN layers, so that absorbing them changes nothing in it."""
    candidates = [Candidate(passes, Method("minmax"), Scheme("cpu")) for passes in ((), ("absorb",))]
    for order in (candidates, candidates[::-1]):
        found = [(entry.engine, entry.candidate) for entry in timed_in_turns(trials, order, path, tmp_path)]
        assert sorted(found, key=str) == sorted(
            [("ort", None), ("openvino", None), ("ort", order[0]), ("ort", order[1]), ("openvino", order[0])],
            key=str,
        )
