"""An engine session on the double: what is right, and every way in which TensorRT says no."""

from pathlib import Path

import numpy as np
import pytest
from tensorrt_double import (
    CHANNELS,
    CLASSES,
    LAYERS,
    SIZE,
    CudaDouble,
    TensorRtDouble,
    expected_logits,
    expected_ms,
)

from errors import UserError
from runtimes.tensorrt.session import EngineSession
from runtimes.tensorrt.validity import reasons_in

CAPABILITY = 89


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    path = tmp_path / "int8.rtx.engine"
    path.write_bytes(b"header" * 100)
    return path


def opened(trt: TensorRtDouble, plan: Path, index: int = 0, captures: bool = True) -> EngineSession:
    return EngineSession(trt, "TensorRT 1.7", plan, CudaDouble(index), CAPABILITY, captures)  # type: ignore[arg-type]


def images(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, CHANNELS, SIZE, SIZE)).astype(np.float32)


@pytest.mark.parametrize("rtx", [True, False])
@pytest.mark.parametrize("captures", [True, False])
def test_batches_of_all_sizes_in_any_order(plan: Path, rtx: bool, captures: bool) -> None:
    session = opened(TensorRtDouble(rtx), plan, captures=captures)
    assert session.largest == 128
    for call, count in enumerate((1, 7, 128, 7, 1, 32, 1, 128, 2)):
        batch = images(count, call)
        logits = session.run(batch)
        assert (logits.dtype, logits.shape) == (np.float32, (count, CLASSES))
        np.testing.assert_allclose(logits, expected_logits(batch), rtol=1e-4, atol=1e-3)
    session.close()


def test_logits_of_one_call_are_not_those_of_the_next(plan: Path) -> None:
    session = opened(TensorRtDouble(), plan)
    first = session.run(images(4, 1))
    kept = first.copy()
    session.run(images(4, 2))
    np.testing.assert_array_equal(first, kept)


def test_each_batch_takes_the_profile_that_is_tuned_for_it(plan: Path) -> None:
    trt = TensorRtDouble(rtx=False)
    session = opened(trt, plan)
    for count in (1, 2, 128):
        session.run(images(count))
    # One launch each beside the one that is captured.
    assert [context.profile for context in trt.contexts] == [0, 1]
    assert [context.launches for context in trt.contexts] == [2, 4]


def test_a_graph_is_captured_once_for_a_batch_size(plan: Path) -> None:
    trt = TensorRtDouble(rtx=False, profiles=((1, 8, 16),))
    session = opened(trt, plan)
    for _ in range(5):
        session.run(images(3))
    assert trt.contexts[0].launches == 2
    assert trt.calls.count("set_input_shape") == 1


def test_rtx_is_told_to_compile_before_the_first_call_and_to_capture(plan: Path) -> None:
    trt = TensorRtDouble()
    session = opened(trt, plan)
    (config,) = trt.configs
    assert config.dynamic_shapes_kernel_specialization_strategy.name == "EAGER"
    assert config.cuda_graph_strategy.name == "WHOLE_GRAPH_CAPTURE"
    assert session.describe()["cuda_graph"] == "whole graph, captured by TensorRT"
    opened(trt, plan, captures=False)
    assert trt.configs[-1].cuda_graph_strategy.name == "DISABLED"


def test_a_batch_outside_every_profile_is_named(plan: Path) -> None:
    session = opened(TensorRtDouble(profiles=((2, 4, 8), (16, 32, 64))), plan)
    for count in (1, 9, 65):
        with pytest.raises(UserError, match=f"no profile for a batch of {count}, only for 2 to 8, 16 to 64"):
            session.run(images(count))
    assert session.run(images(16)).shape == (16, CLASSES)


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("deserialize_cuda_engine", "cannot load int8.rtx.engine .* magic tag does not match"),
        ("create_runtime_config", "cannot make a runtime configuration for"),
        ("set_runtime_cache", "cannot use the runtime cache of"),
        ("create_execution_context", "cannot make an execution context for"),
        ("set_optimization_profile_async", "cannot choose profile 0 of"),
        ("set_tensor_address", "cannot bind images of"),
    ],
)
def test_what_tensorrt_refuses_while_opening_is_said(plan: Path, method: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        opened(TensorRtDouble(refuse=(method,)), plan)


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("set_input_shape", "cannot take a batch of 3 in"),
        ("infer_shapes", "cannot run without a shape of images"),
        ("execute_async_v3", "cannot run int8.rtx.engine on NVIDIA double 1 .GPU 1."),
    ],
)
@pytest.mark.parametrize("rtx", [True, False])
def test_what_tensorrt_refuses_while_running_is_said(
    plan: Path, rtx: bool, method: str, message: str
) -> None:
    trt = TensorRtDouble(rtx, refuse=(method,))
    session = opened(trt, plan, index=1)
    for _ in range(2):
        with pytest.raises(UserError, match=message):
            session.run(images(3))


@pytest.mark.parametrize(
    ("bits", "problem", "fix"),
    [
        (1, "another version of TensorRT", "build it again"),
        (2, "not built for compute capability 8.9", "--target sm89"),
        (4, "driver is too old", "update the driver"),
        (8, "CUDA runtime is too old", "update CUDA"),
        (16, "too little memory", "smaller batches"),
        (32, "the file is damaged", "--force"),
        (64, "CUDA reports an error", "nvidia-smi"),
        (6, "not built for compute capability 8.9; the NVIDIA driver", "--target sm89; update the driver"),
        (128, "unknown reason, 128", "report this"),
    ],
)
def test_an_engine_that_is_not_valid_here_says_why(plan: Path, bits: int, problem: str, fix: str) -> None:
    with pytest.raises(UserError) as refusal:
        opened(TensorRtDouble(diagnostics=bits), plan)
    assert problem in refusal.value.problem
    assert fix in refusal.value.fix
    assert len(reasons_in(bits, CAPABILITY)) == bits.bit_count()


def test_a_runtime_that_cannot_be_asked_is_not(plan: Path) -> None:
    assert opened(TensorRtDouble(diagnostics=None), plan).largest == 128


def test_warnings_are_kept(plan: Path) -> None:
    assert opened(TensorRtDouble(), plan).describe()["warnings"] == {"a warning": 1}


def test_the_gpu_is_the_one_that_was_asked_for(plan: Path) -> None:
    session = opened(TensorRtDouble(), plan, index=3)
    assert session.describe()["gpu_index"] == 3


# The clock of the GPU, and the profile of the layers


@pytest.mark.parametrize("rtx", [True, False])
@pytest.mark.parametrize("captures", [True, False])
def test_device_time_is_of_the_launch_alone(plan: Path, rtx: bool, captures: bool) -> None:
    session = opened(TensorRtDouble(rtx), plan, captures=captures)
    for count in (7, 1, 7, 128):
        assert session.device_ms(images(count)) == pytest.approx(expected_ms(count))
    batch = images(7)
    np.testing.assert_allclose(session.run(batch), expected_logits(batch), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("method", ["set_input_shape", "execute_async_v3"])
def test_what_tensorrt_refuses_while_timing_is_said(plan: Path, method: str) -> None:
    session = opened(TensorRtDouble(refuse=(method,)), plan)
    for measure in (session.device_ms, lambda batch: session.layer_times(batch, 1)):
        with pytest.raises(UserError, match=r"int8.rtx.engine on NVIDIA double 0 .GPU 0."):
            measure(images(3))


@pytest.mark.parametrize("rtx", [True, False])
@pytest.mark.parametrize("captures", [True, False])
def test_profile_is_the_mean_of_each_layer_and_disturbs_no_timing(
    plan: Path, rtx: bool, captures: bool
) -> None:
    trt = TensorRtDouble(rtx)
    session = opened(trt, plan, captures=captures)
    session.run(images(5))
    times = session.layer_times(images(5), calls=4)
    assert list(times) == list(LAYERS)
    assert times == {name: pytest.approx(5 * ms) for name, ms in LAYERS.items()}
    # One context for each profile of the engine and one for the profiler, with the tuned profile of a batch.
    assert [context.profile for context in trt.contexts] == [0, 1, 1]
    assert session.device_ms(images(5)) == pytest.approx(expected_ms(5))


def test_profile_of_rtx_uses_the_kernels_that_are_compiled(plan: Path) -> None:
    trt = TensorRtDouble()
    opened(trt, plan).layer_times(images(2), calls=1)
    timed, profiled = trt.configs
    assert profiled.cache is timed.cache
    assert profiled.cuda_graph_strategy.name == "DISABLED"
    assert profiled.dynamic_shapes_kernel_specialization_strategy.name == "EAGER"


@pytest.mark.parametrize("rtx", [True, False])
def test_tensorrt_that_reports_no_layers_is_told(plan: Path, rtx: bool) -> None:
    session = opened(TensorRtDouble(rtx, refuse=("report_layer_time",)), plan)
    with pytest.raises(
        UserError, match=r"TensorRT 1.7 cannot report the time of any layer of int8.rtx.engine"
    ):
        session.layer_times(images(2), calls=1)


# The runtime cache


def test_compiled_kernels_are_kept_for_the_next_time(plan: Path) -> None:
    first = opened(TensorRtDouble(), plan)
    assert first.describe()["runtime_cache"] == "no file yet"
    first.run(images(5))
    first.close()
    file = plan.with_suffix(".runtime-cache")
    assert file.read_bytes() == b"cache:batch5"
    second = opened(TensorRtDouble(), plan)
    assert second.describe()["runtime_cache"] == "loaded"
    second.run(images(6))
    second.close()
    assert file.read_bytes() == b"cache:batch5 batch6"


def test_a_cache_of_another_machine_is_made_again(plan: Path) -> None:
    file = plan.with_suffix(".runtime-cache")
    file.write_bytes(b"of another GPU")
    session = opened(TensorRtDouble(), plan)
    assert "made again" in session.describe()["runtime_cache"]
    session.run(images(2))
    session.close()
    assert file.read_bytes() == b"cache:batch2"


def test_a_folder_that_cannot_be_written_is_left_alone(plan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_only(*_: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("runtimes.tensorrt.runtime_cache.write_atomically", read_only)
    session = opened(TensorRtDouble(), plan)
    session.run(images(2))
    session.close()
    assert not plan.with_suffix(".runtime-cache").exists()
