from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from lightning import Callback

from semiclip.model import SemiClip
from semiclip.model._data import PairedDataModule
from semiclip.model._tensors import PairedTensors


@pytest.fixture
def knockouts(small_study):
    return small_study.knockouts["rna"].copy()


@pytest.fixture
def untrained(mdata, setup):
    SemiClip.setup_mudata(mdata, **setup)
    return SemiClip(mdata)


@pytest.fixture
def model(untrained, quiet):
    untrained.train(2, **quiet)
    return untrained


@pytest.fixture(scope="session")
def paired():
    """Make tensors whose teacher rows carry their own key as their first feature, and the keys of both sides."""

    def make(student_key, teacher_key, rng):
        student_key, teacher_key = np.asarray(student_key), np.asarray(teacher_key)
        known = np.intersect1d(student_key[student_key >= 0], teacher_key[teacher_key >= 0])
        code = {key: i for i, key in enumerate(known)}
        student, teacher = (np.array([code.get(key, -1) for key in keys]) for keys in (student_key, teacher_key))
        x, y = rng.normal(size=(len(student), 3)), np.column_stack([teacher, np.arange(len(teacher))])
        batch = rng.integers(0, 3, len(student))
        return PairedTensors.from_arrays(x, y, student, teacher, batch), student, teacher

    return make


@pytest.fixture(scope="session")
def data_module():
    """Make a data module that is attached to what stands for a trainer.

    So many steps of the epoch are behind it; with several processes, ``first`` is the state of the first one.
    """

    def make(tensors, groups=None, *, epoch=0, steps=0, processes=1, rank=0, first=None, **kwargs):
        data = PairedDataModule(tensors, tensors.key.numpy() if groups is None else groups, **kwargs)
        strategy = SimpleNamespace(
            root_device=torch.device("cpu"),
            world_size=processes,
            global_rank=rank,
            broadcast=lambda state: state if first is None else first,
        )
        progress = SimpleNamespace(batch_idx=steps - 1)
        data.trainer = SimpleNamespace(strategy=strategy, current_epoch=epoch, fit_loop=progress)
        data.setup()
        return data

    return make


class Scores(Callback):
    """Logs a number of each epoch as ``validation_score``."""

    def __init__(self, *scores):
        self.scores = scores

    def on_validation_epoch_end(self, trainer, pl_module):
        pl_module.log("validation_score", float(self.scores[trainer.current_epoch]))


@pytest.fixture
def scores():
    return Scores


class Spy(Callback):
    """Keeps the data and the weights with which training began, or distillation after pretraining."""

    def on_train_start(self, trainer, pl_module):
        self.data = trainer.datamodule
        self.weights = {name: weights.clone() for name, weights in pl_module.module.state_dict().items()}


@pytest.fixture
def spy():
    return Spy
