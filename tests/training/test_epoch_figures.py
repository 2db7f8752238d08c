import re

import torch
from torch import Tensor

from training.epoch_figures import EpochFigures
from training.processes import Processes

CPU = torch.device("cpu")


def logits_naming(*classes: int) -> Tensor:
    return torch.nn.functional.one_hot(torch.tensor(classes), 10).float()


def test_loss_and_accuracy_by_hand() -> None:
    figures = EpochFigures(2, CPU, Processes())
    figures.add(torch.tensor(3.0), logits_naming(1, 2, 3), torch.tensor([1, 2, 4]))
    figures.add(torch.tensor(1.0), logits_naming(5), torch.tensor([5]))
    figures.gather()
    assert figures.losses == [3.0, 1.0]
    assert figures.loss == 2.0
    assert figures.correct == 3


def test_the_text_is_of_the_steps_that_have_arrived() -> None:
    figures = EpochFigures(4, CPU, Processes())
    figures.add(torch.tensor(3.0), logits_naming(1, 2), torch.tensor([1, 1]))
    assert figures.text() == "", "the copy is on its way to the host"
    figures.add(torch.tensor(1.0), logits_naming(1, 2), torch.tensor([1, 2]))
    assert re.fullmatch(r"loss 3\.000  accuracy 50\.0 %  [\d,]+ images/s", figures.text())
    figures.add(torch.tensor(torch.nan), logits_naming(1), torch.tensor([1]))
    assert figures.text().startswith("loss 2.000  accuracy 75.0 %")
    assert figures.is_finite, "the last loss has not arrived"
    figures.add(torch.tensor(1.0), logits_naming(1), torch.tensor([1]))
    assert not figures.is_finite


def test_a_text_holds_no_graph_alive() -> None:
    weight = torch.ones((), requires_grad=True)
    figures = EpochFigures(1, CPU, Processes())
    figures.add(weight * 2, logits_naming(1) * weight, torch.tensor([1]))
    figures.gather()
    assert figures.loss == 2.0
