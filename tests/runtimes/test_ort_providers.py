"""A session on a GPU runs all of the graph there, or there is no session and the reason is told."""

import onnxruntime
import pytest
from onnx import parser
from ort_double import PLUGIN, OrtDouble, SessionDouble

from errors import UserError
from runtimes.ort_providers import CUDA, RTX, TENSORRT, Provider, nodes_by_provider, session_on_gpu

GRAPH = parser.parse_model(
    '<ir_version: 10, opset_import: ["": 20]>'
    "two (float[N, 4] x) => (float[N, 4] y) { a = Relu (x) y = Neg (a) }"
).SerializeToString()
ALL = pytest.mark.parametrize("provider", [CUDA, TENSORRT, RTX], ids=lambda provider: provider.name)
MISSING = "libcublasLt.so.13: cannot open shared object file"


def opened(provider: Provider, **settings: str) -> SessionDouble:
    return session_on_gpu(GRAPH, onnxruntime.SessionOptions(), provider, settings)  # type: ignore[return-value]


def refusal(provider: Provider) -> UserError:
    with pytest.raises(UserError) as refused:
        opened(provider)
    return refused.value


@ALL
def test_session_runs_every_node_with_the_provider_and_its_settings(
    monkeypatch: pytest.MonkeyPatch, provider: Provider
) -> None:
    OrtDouble().install(monkeypatch)
    session = opened(provider, device_id="0")
    assert session.provider == provider.name
    assert session.settings == {"device_id": "0"}
    assert nodes_by_provider(session) == {provider.name: 2}  # type: ignore[arg-type]


@ALL
def test_library_that_does_not_load_is_named_and_nothing_else_is_printed(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], provider: Provider
) -> None:
    ort = OrtDouble(missing=MISSING).install(monkeypatch)
    error = refusal(provider)
    assert error.problem == f"{provider.name} does not load ({MISSING})"
    assert error.fix == provider.fix
    assert capfd.readouterr() == ("", "")
    assert ort.sessions == []


def test_provider_that_is_dropped_without_a_word_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    ort = OrtDouble(forgets_configuration=True).install(monkeypatch)
    monkeypatch.setattr(SessionDouble, "get_providers", lambda session: ["CPUExecutionProvider"])
    assert refusal(CUDA).problem == "CUDAExecutionProvider does not load (ONNX Runtime gives no reason)"
    assert len(ort.sessions) == 1


@ALL
def test_nodes_that_go_to_the_cpu_are_an_error(monkeypatch: pytest.MonkeyPatch, provider: Provider) -> None:
    OrtDouble(leaves=1).install(monkeypatch)
    assert refusal(provider).problem == (
        f"{provider.name} does not run the graph (This session contains graph nodes that are assigned to "
        "the default CPU EP)"
    )


@ALL
@pytest.mark.parametrize("leaves", [1, 2])
def test_nodes_are_counted_beside_the_configuration(
    monkeypatch: pytest.MonkeyPatch, provider: Provider, leaves: int
) -> None:
    OrtDouble(leaves=leaves, forgets_configuration=True).install(monkeypatch)
    assert (
        f"leaves nodes of the graph to others: {leaves} to CPUExecutionProvider" in refusal(provider).problem
    )


def test_graph_without_nodes_proves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    OrtDouble().install(monkeypatch)
    monkeypatch.setattr(SessionDouble, "get_provider_graph_assignment_info", lambda session: [])
    assert "to others: all of them" in refusal(CUDA).problem


@ALL
def test_call_that_fails_is_not_made_again_on_the_cpu(
    monkeypatch: pytest.MonkeyPatch, provider: Provider
) -> None:
    OrtDouble().install(monkeypatch)
    session = opened(provider)
    session.fails = True
    with pytest.raises(Exception, match="enqueue failed"):
        session.run(None, {})
    assert session.provider == provider.name


@pytest.mark.parametrize("provider", [CUDA, TENSORRT], ids=lambda provider: provider.name)
def test_build_of_onnx_runtime_without_the_provider_is_named(
    monkeypatch: pytest.MonkeyPatch, provider: Provider
) -> None:
    OrtDouble(available=["CPUExecutionProvider"]).install(monkeypatch)
    error = refusal(provider)
    assert error.problem == f"this ONNX Runtime has no {provider.name}"
    assert "onnxruntime-gpu" in error.fix


def test_package_of_the_rtx_provider_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    OrtDouble(plugin=False).install(monkeypatch)
    error = refusal(RTX)
    assert "a package of its own" in error.problem
    assert "pip install onnxruntime-ep-nv-tensorrt-rtx" in error.fix
    assert RTX.package == PLUGIN


def test_no_gpu_that_the_rtx_provider_supports_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    OrtDouble(devices=0).install(monkeypatch)
    assert "finds no GPU that it supports" in refusal(RTX).problem


def test_library_of_the_rtx_provider_is_registered_once(monkeypatch: pytest.MonkeyPatch) -> None:
    ort = OrtDouble().install(monkeypatch)
    opened(RTX)
    opened(RTX)
    assert ort.registered == [(RTX.name, "/plugin.so")]


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise TypeError("an unexpected keyword argument")

    OrtDouble().install(monkeypatch)
    monkeypatch.setattr(onnxruntime, "InferenceSession", broken)
    with pytest.raises(TypeError, match="keyword"):
        opened(CUDA)


def test_onnx_runtime_here_has_what_the_double_has() -> None:
    assert callable(onnxruntime.get_available_providers)
    assert callable(onnxruntime.get_ep_devices)
    assert callable(onnxruntime.register_execution_provider_library)
    assert callable(onnxruntime.SessionOptions().add_provider_for_devices)
    assert callable(onnxruntime.InferenceSession.get_provider_graph_assignment_info)


def test_onnx_runtime_here_records_which_provider_a_node_went_to() -> None:
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    session = onnxruntime.InferenceSession(GRAPH, options, providers=["CPUExecutionProvider"])
    assert nodes_by_provider(session) == {"CPUExecutionProvider": 2}
