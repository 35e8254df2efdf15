"""The training loop that members share."""

from __future__ import annotations

import signal

import pytest
import torch
from lightning.pytorch import LightningModule

from features.training import batches_of, run_training


class Interrupted(LightningModule):
    """Is interrupted at one of Lightning's moments."""

    def __init__(self, moment: str) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

        def interrupt(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        setattr(self, moment, interrupt)

    def training_step(self, batch, batch_index):
        return (self.weight * batch).sum()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.mark.parametrize(
    "moment",
    [
        "setup",
        "configure_optimizers",
        "on_fit_start",
        "on_train_start",
        "on_train_epoch_start",
        "training_step",
    ],
)
def test_an_interrupt_at_any_moment_arrives_as_one(moment, monkeypatch):
    # Lightning stops listening to interrupts once it has one; these tests want to go on hearing them.
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    loader = batches_of(list(torch.ones(8, 1)), 4, seed=0)
    with pytest.raises(KeyboardInterrupt):
        run_training(Interrupted(moment), loader, max_epochs=1, device="cpu")


def test_an_interrupt_while_the_first_batch_is_asked_for(monkeypatch):
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    loader = batches_of(list(torch.ones(8, 1)), 4, seed=0)

    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(type(loader), "__iter__", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run_training(Interrupted("on_fit_end"), loader, max_epochs=1, device="cpu")


def test_a_mistake_in_training_is_no_interrupt():
    class Wrong(Interrupted):
        def training_step(self, batch, batch_index):
            raise RuntimeError("shapes do not fit")

    loader = batches_of(list(torch.ones(8, 1)), 4, seed=0)
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        run_training(Wrong("on_fit_end"), loader, max_epochs=1, device="cpu")
