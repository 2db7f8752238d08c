"""Each fix of the session, taken out again, must be noticed on the double."""

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from tensorrt_double import (
    CHANNELS,
    LAYERS,
    SIZE,
    CudaDouble,
    TensorRtDouble,
    expected_logits,
    expected_ms,
)

from errors import UserError

ROOT = Path(__file__).parents[3]
ORDER = ("cuda", "layer_profile", "plan_options", "collecting_logger", "runtime_cache", "validity", "session")

_PREPARED_AND_LAUNCHED = "            self._prepare(lane, images)\n            self._launch(lane)\n"

MUTANTS = [
    ("session", "if lane.batch != len(images):", "if not lane.batch:"),
    ("session", "        lane.batch = 0\n", ""),
    ("session", "if missing := lane.context.infer_shapes():", "if missing := []:"),
    (
        "session",
        "self._require(lane.context.set_input_shape(",
        "ignored(lane.context.set_input_shape(",
    ),
    ("session", "self._require(context.set_tensor_address(", "ignored(context.set_tensor_address("),
    ("session", 'self._require(context, "make', 'ignored(context, "make'),
    (
        "session",
        "self._require(lane.context.execute_async_v3(",
        "ignored(lane.context.execute_async_v3(",
    ),
    ("session", 'self._require(chosen, f"choose', 'ignored(chosen, f"choose'),
    ("session", "KernelSpecializationStrategy.EAGER", "KernelSpecializationStrategy.LAZY"),
    ("session", "strategy.WHOLE_GRAPH_CAPTURE if", "strategy.DISABLED if"),
    ("session", "if captures else strategy.DISABLED", "if True else strategy.DISABLED"),
    ("session", "() if config is None else (config,)", "()"),
    *(
        ("session", f"        with self._cuda.current():\n{inside}", f"        if True:\n{inside}")
        for inside in (
            f"{_PREPARED_AND_LAUNCHED}            return self._output",
            f"{_PREPARED_AND_LAUNCHED}            return self._cuda",
            "            config",
        )
    ),
    ("session", "        with cuda.current():", "        if True:"),
    ("session", "self._runtime = trt.Runtime(self._logger)", "self._runtime = trt.Runtime(trt.Logger())"),
    ("session", "        self._cuda.synchronize()\n        lane.graphs", "        lane.graphs"),
    (
        "session",
        "        self._enqueue(lane)\n        self._cuda.synchronize()\n        lane.graphs",
        "        lane.graphs",
    ),
    ("session", "self._cache.save()", "pass"),
    ("session", "self._cache.load()", "pass"),
    ("session", "refuse_unfit_engine(self._runtime", "ignored(self._runtime"),
    (
        "plan_options",
        "key=lambda index: abs(known[index].best - batch)",
        "key=lambda index: -known[index].largest",
    ),
    ("plan_options", "if profile.serves(batch)]", "]"),
    ("session", "lane.batch not in lane.graphs:", "not lane.graphs:"),
    (
        "session",
        "            self._launch(lane)\n            return self._cuda.milliseconds",
        "            return self._cuda.milliseconds",
    ),
    (
        "session",
        "return self._cuda.milliseconds(lambda: self._launch(lane))",
        "return self._cuda.milliseconds(lambda: (self._input.upload(images), self._launch(lane)))",
    ),
    (
        "session",
        "return self._cuda.milliseconds(lambda: self._launch(lane))",
        "return self._cuda.milliseconds(lambda: (self._launch(lane), self._launch(lane)))",
    ),
    (
        "session",
        "lane = self._lane(self._index_for(len(images)), config, captures=False)",
        "lane = self._lanes[self._index_for(len(images))]",
    ),
    (
        "session",
        "config = self._runtime_config(captures=False) if self._is_rtx else None",
        "config = self._config",
    ),
    (
        "session",
        "            self._enqueue(lane)\n            self._cuda.synchronize()\n            lane.context",
        "            lane.context",
    ),
    ("session", "lane.context.profiler = profiler", "lane.context.profiler = collecting_profiler(self._trt)"),
    ("session", "if not profiler.totals:", "if False:"),
    ("session", "total / calls", "total"),
    ("session", "if self._cache is None:", "if True:"),
    ("layer_profile", "            super().__init__()\n", ""),
    ("layer_profile", "self.totals[layer_name] += ms", "self.totals[layer_name] = ms"),
    ("cuda", "        self._cuda.synchronize()\n        return self._host", "        return self._host"),
    ("cuda", ".reshape(shape).copy()", ".reshape(shape)"),
    ("validity", 'plan[: getattr(runtime, "engine_header_size", _HEADER_BYTES)]', "plan"),
    ("collecting_logger", "            super().__init__()\n", ""),
    ("collecting_logger", "self.errors.append(message.strip())", "pass"),
    (
        "runtime_cache",
        "if self.kernels.deserialize(content):",
        "if self.kernels.deserialize(content) or True:",
    ),
]


@contextmanager
def session_with(mutated: str | None = None, old: str = "", new: str = "") -> Iterator[ModuleType]:
    """The modules of the session, loaded afresh with one of them changed."""
    names = [f"runtimes.tensorrt.{name}" for name in ORDER]
    before = {name: sys.modules.get(name) for name in names}
    try:
        for name in ORDER:
            path = ROOT / f"runtimes/tensorrt/{name}.py"
            text = path.read_text()
            if name == mutated:
                assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in {path.name}"
                text = text.replace(old, new)
            spec = importlib.util.spec_from_loader(f"runtimes.tensorrt.{name}", loader=None)
            assert spec is not None
            module = importlib.util.module_from_spec(spec)
            sys.modules[spec.name] = module
            # For mutants that no longer look at what TensorRT returns.
            vars(module)["ignored"] = lambda *results: None
            exec(compile(text, str(path), "exec"), vars(module))
        yield sys.modules[names[-1]]
    finally:
        for name, module in before.items():
            if module is not None:
                sys.modules[name] = module
            else:
                sys.modules.pop(name, None)


def images(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, CHANNELS, SIZE, SIZE)).astype(np.float32)


def refusal(module: ModuleType, plan: Path, **how: object) -> str:
    """What is said where TensorRT refuses; empty if nothing is."""
    try:
        session = module.EngineSession(TensorRtDouble(**how), "TensorRT", plan, CudaDouble(0), 89)
        session.run(images(3, 0))
        session.run(images(3, 0))
    except UserError as error:
        return error.problem
    return ""


def check_recovery(module: ModuleType, plan: Path, rtx: bool) -> None:
    """A batch that TensorRT refuses does not spoil the next one."""
    trt = TensorRtDouble(rtx)
    session = module.EngineSession(trt, "TensorRT", plan, CudaDouble(0), 89)
    batch = images(7, 0)
    session.run(batch)
    trt.refuse = ("set_input_shape",)
    with pytest.raises(UserError):
        session.run(images(3, 0))
    trt.refuse = ()
    np.testing.assert_allclose(session.run(batch), expected_logits(batch), rtol=1e-4, atol=1e-3)


def check_measurements(trt: TensorRtDouble, session: Any) -> None:
    """The clock and the profile, on a session that has run batches of 7."""
    for count in (5, 7, 1):
        assert session.device_ms(images(count, 0)) == pytest.approx(expected_ms(count))
    times = session.layer_times(images(5, 0), calls=3)
    assert times == {name: pytest.approx(5 * ms) for name, ms in LAYERS.items()}
    assert session.device_ms(images(5, 0)) == pytest.approx(expected_ms(5))
    assert len({id(config.cache) for config in trt.configs}) == len(trt.configs[:1])
    trt.refuse = ("report_layer_time",)
    with pytest.raises(UserError, match="time of any layer"):
        session.layer_times(images(5, 0), calls=1)
    trt.refuse = ()


def check_no_graphs(module: ModuleType, plan: Path, rtx: bool) -> None:
    """Without CUDA graphs every call launches the kernels one by one."""
    trt = TensorRtDouble(rtx, profiles=((1, 8, 16),))
    session = module.EngineSession(trt, "TensorRT", plan, CudaDouble(0), 89, False)
    for _ in range(3):
        session.run(images(7, 0))
    assert [context.launches for context in trt.contexts] == [3]
    assert {c.cuda_graph_strategy.name for c in trt.configs} <= {"DISABLED"}
    assert session.describe()["cuda_graph"] == "none"
    session.close()


def check(module: ModuleType, folder: Path) -> None:
    """Everything that a session promises; AssertionError where it does not hold."""
    for rtx in (True, False):
        plan = folder / f"{rtx}.engine"
        plan.write_bytes(b"x" * 1000)
        trt = TensorRtDouble(rtx)
        session = module.EngineSession(trt, "TensorRT", plan, CudaDouble(0), 89)
        results = []
        for seed, count in enumerate((1, 7, 1, 128, 7, 7, 2, 1, 1)):
            batch = images(count, seed)
            results.append((session.run(batch), expected_logits(batch)))
        for logits, expected in results:
            np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-3)
        if rtx:
            assert {c.dynamic_shapes_kernel_specialization_strategy.name for c in trt.configs} == {"EAGER"}
            assert {c.cuda_graph_strategy.name for c in trt.configs} == {"WHOLE_GRAPH_CAPTURE"}
        else:
            assert [context.launches for context in trt.contexts] == [2, 6]
        check_measurements(trt, session)
        session.close()
        check_no_graphs(module, plan, rtx)
        with np.testing.assert_raises(UserError):
            module.EngineSession(trt, "TensorRT", plan, CudaDouble(0), 89).run(images(129, 0))
        for method in ("set_input_shape", "infer_shapes", "set_tensor_address", "execute_async_v3"):
            assert refusal(module, plan, rtx=rtx, refuse=(method,)), method
        assert "take a batch of 3" in refusal(module, plan, rtx=rtx, refuse=("set_input_shape",))
        check_recovery(module, plan, rtx)
        for method in ("create_execution_context", "set_optimization_profile_async"):
            assert "TensorRT cannot" in refusal(module, plan, rtx=rtx, refuse=(method,)), method
        assert "magic tag" in refusal(module, plan, rtx=rtx, refuse=("deserialize_cuda_engine",))
        assert "driver is too old" in refusal(module, plan, rtx=rtx, diagnostics=4)
    cache = folder / "True.runtime-cache"
    assert cache.read_bytes() == b"cache:batch1 batch128 batch2 batch5 batch7"
    again = module.EngineSession(TensorRtDouble(), "TensorRT", folder / "True.engine", CudaDouble(0), 89)
    assert again.describe()["runtime_cache"] == "loaded"
    cache.write_bytes(b"of another machine")
    again = module.EngineSession(TensorRtDouble(), "TensorRT", folder / "True.engine", CudaDouble(0), 89)
    assert "made again" in again.describe()["runtime_cache"]


def test_the_session_keeps_its_promises(tmp_path: Path) -> None:
    with session_with() as module:
        check(module, tmp_path)


@pytest.mark.parametrize(("name", "old", "new"), MUTANTS)
def test_a_fix_that_is_taken_out_is_noticed(tmp_path: Path, name: str, old: str, new: str) -> None:
    with session_with(name, old, new) as module, pytest.raises(BaseException):  # noqa: B017
        check(module, tmp_path)
