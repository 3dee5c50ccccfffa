"""Ctrl-C is a KeyboardInterrupt, wherever it comes; the model is then as it was before."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from lightning import Callback

from semiclip.model import SemiClip

QUIET = {"accelerator": "cpu", "enable_progress_bar": False}


class Interrupt(Callback):
    """Interrupts at a hook of the trainer, as a signal that arrives there would."""

    def __init__(self, hook, error=KeyboardInterrupt):
        def stop(*args, **kwargs):
            raise error

        setattr(self, hook, stop)


def state(model):
    kept = {name: value for name, value in model._get_user_attributes() if name.endswith("_")}
    weights = {name: value.clone() for name, value in model.module.state_dict().items()}
    return weights, repr(kept), model.is_trained, {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}


def assert_same(now, before):
    torch.testing.assert_close(now[0], before[0], rtol=0, atol=0)
    assert now[1:] == before[1:]


HOOKS = ("setup", "on_fit_start", "on_train_start", "on_train_epoch_start", "on_train_batch_end", "on_validation_end")


@pytest.mark.parametrize("hook", [*HOOKS, "on_train_end", "on_fit_end", "teardown"])
@pytest.mark.parametrize("objective", ["semiclip", "kd"])  # the second is pretrained and gets heads
def test_an_interrupt_leaves_the_model_as_it_was(small_study, setup, hook, objective):
    mdata = small_study.mdata.copy()
    SemiClip.setup_mudata(mdata, **setup)
    model = SemiClip(mdata, objective=objective, n_hidden=[])
    for _ in range(2):  # the second time it is trained
        before = state(model)
        with pytest.raises(KeyboardInterrupt):
            model.train(2, callbacks=Interrupt(hook), **QUIET)
        assert_same(state(model), before)
        model.train(1, **QUIET)


def test_an_error_leaves_the_model_as_it_was(small_study, setup):
    mdata = small_study.mdata.copy()
    SemiClip.setup_mudata(mdata, **setup)
    model = SemiClip(mdata, n_hidden=[])
    model.train(1, **QUIET)
    before = state(model)
    for error in (OSError, SystemExit, MemoryError):
        with pytest.raises(error):
            model.train(2, callbacks=[Interrupt("on_train_epoch_end", error)], **QUIET)
        assert_same(state(model), before)
    np.testing.assert_array_equal(model.history["train_loss"].index, [0])


# trains again and again, each time until a signal comes at a random moment
INTERRUPTED = """
import os, signal, sys, threading, warnings
warnings.simplefilter("ignore")
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may start what is in the background without it
import numpy as np
import semiclip as scl
from semiclip.model import SemiClip

study = scl.datasets.simulate(n_compounds=24, n_knockouts=24, n_pathways=6, n_genes=60, rng=0)
scl.pp.encode(study.mdata["rna"], encoder="pca", n_components=8, rng=0)
columns = {"perturbation_key": "perturbation", "control": "control", "batch_key": "batch"}
pairs = {"student_rep": "X_pca", "teacher_rep": "X_image", "pair_on": ["perturbation", "dose"]}
SemiClip.setup_mudata(study.mdata, **pairs, **columns)
model = SemiClip(study.mdata, objective="kd", n_hidden=[])
before, handler, ends = model.module, signal.getsignal(signal.SIGINT), []
for delay in np.random.default_rng(0).uniform(0, 0.5, int(sys.argv[1])):
    timer = threading.Timer(delay, os.kill, (os.getpid(), signal.SIGINT))
    try:
        timer.start()
        model.train(10_000, pretrain_epochs=10, accelerator="cpu", enable_progress_bar=False, logger=False)
    except BaseException as error:
        ends.append(type(error).__name__)
    assert not model.is_trained and model.history_ is None and model.classes_ is None
    assert signal.getsignal(signal.SIGINT) is handler
print(*ends)
"""


def interrupt(times):
    """Return how each of so many interrupted trainings ended."""
    done = subprocess.run([sys.executable, "-c", INTERRUPTED, str(times)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="needs signals")
def test_a_signal_at_any_moment_is_a_keyboard_interrupt():
    assert interrupt(40) == ["KeyboardInterrupt"] * 40


# a child for each signal trains until it comes; the parent says how each of them ended
SLEEPER = """
import os, signal, sys, warnings
warnings.simplefilter("ignore")
signal.signal(signal.SIGINT, signal.default_int_handler)
import semiclip as scl
from lightning import Callback
study = scl.datasets.simulate(n_compounds=24, n_knockouts=24, n_pathways=6, n_genes=60, rng=0)
scl.pp.encode(study.mdata["rna"], encoder="pca", n_components=8, rng=0)

class Say(Callback):
    def on_train_epoch_end(self, trainer, pl_module):
        if trainer.current_epoch == 1:
            print(os.getpid(), flush=True)

columns = {"perturbation_key": "perturbation", "control": "control", "batch_key": "batch"}
for _ in range(int(sys.argv[1])):
    if not (child := os.fork()):
        scl.tl.semiclip(
            study.mdata, student_rep="X_pca", teacher_rep="X_image", pair_on=["perturbation", "dose"], **columns,
            recipe="whole", max_epochs=10**6, callbacks=[Say()],
        )
    ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print("ended", file=sys.stderr, flush=True)
    print(ended, flush=True)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and signals")
def test_a_script_ends_by_the_signal_that_it_got():
    signals, ends = (signal.SIGINT, signal.SIGTERM), []
    command = [sys.executable, "-c", SLEEPER, str(len(signals))]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "start_new_session": True}
    with subprocess.Popen(command, **pipes) as process:
        try:
            for number in signals:
                child = int(process.stdout.readline())
                time.sleep(0.2)
                os.kill(child, number)
                ends.append(int(process.stdout.readline()))
            _, told = process.communicate(timeout=60)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)  # one that goes on
    interrupted, terminated, _ = told.split("ended\n")
    assert "NameError" not in told
    assert interrupted.rstrip().splitlines()[-1].startswith("KeyboardInterrupt")
    assert "Traceback" not in terminated
    assert process.returncode == 0
    assert ends[0] in (1, -signal.SIGINT)
    assert ends[1] == -signal.SIGTERM
