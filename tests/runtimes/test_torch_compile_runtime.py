from typing import Any

import numpy as np
import pytest
import torch

from artifacts.names import CHECKPOINT
from artifacts.run_directory import RunDirectory
from data.dataset import Dataset
from errors import UserError
from runtimes.torch_compile_runtime import TorchCompileRuntime
from runtimes.torch_runtime import TorchRuntime


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """TorchDynamo captures, and PyTorch runs what was captured, without a C++ compiler."""
    monkeypatch.setattr(TorchCompileRuntime, "backend", "eager")


@pytest.mark.usefixtures("quick")
def test_each_batch_size_is_compiled_once_with_its_own_shape(
    preact_run: RunDirectory, digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes: list[tuple[Any, ...]] = []

    def backend(graph: torch.fx.GraphModule, examples: list[torch.Tensor]) -> Any:
        images = [example for example in examples if example.shape[1:] == (3, 32, 32)]
        shapes.extend(tuple(example.shape) for example in images)
        return graph.forward

    monkeypatch.setattr(TorchCompileRuntime, "backend", staticmethod(backend))
    images = digits.normalised(digits.test.images[:4])
    with TorchCompileRuntime(preact_run.verified(CHECKPOINT), "fp32") as runtime:
        for batch in (1, 2, 4, 2, 1):
            runtime.infer(images[:batch])
        assert shapes == [(batch, 3, 32, 32) for batch in (1, 2, 4)]
        assert set(runtime.describe()["compiled"]) == {"1", "2", "4"}


@pytest.mark.usefixtures("quick")
def test_more_batch_sizes_than_dynamo_compiles_by_default(preact_run: RunDirectory, digits: Dataset) -> None:
    """PyTorch would give up after 8, here after 2, and run the rest in eager mode."""
    images = digits.normalised(digits.test.images[:4])
    with (
        torch._dynamo.config.patch(recompile_limit=2),
        TorchCompileRuntime(preact_run.verified(CHECKPOINT), "fp32") as runtime,
    ):
        for batch in range(1, 5):
            runtime.infer(images[:batch])
        assert len(runtime.describe()["compiled"]) == 4


@pytest.mark.filterwarnings("ignore:dynamo_pgo")
def test_compilation_without_a_compiler_says_so(preact_run: RunDirectory, digits: Dataset) -> None:
    import torch._inductor.config as inductor

    images = digits.normalised(digits.test.images[:3])
    with (
        inductor.patch({"cpp.cxx": ("no-such-compiler",), "force_disable_caches": True}),
        TorchCompileRuntime(preact_run.verified(CHECKPOINT), "fp32") as runtime,
        pytest.raises(UserError, match=r"torch.compile does not compile .*no-such-compiler") as refusal,
    ):
        runtime.infer(images)
    assert "C++ compiler" in refusal.value.fix


@pytest.mark.slow
def test_compiled_logits_are_those_of_the_network(run: RunDirectory, digits: Dataset) -> None:
    images = digits.normalised(digits.test.images[:3])
    with TorchRuntime(run.verified(CHECKPOINT), "fp32") as runtime:
        expected = runtime.infer(images)
    with TorchCompileRuntime(run.verified(CHECKPOINT), "fp32") as runtime:
        logits = runtime.infer(images)
        assert runtime.describe()["arithmetic"] == "float32, torch.compile, channels_last"
    assert np.abs(logits - expected).max() <= 1e-5 * np.abs(expected).max()
