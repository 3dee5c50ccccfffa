"""What training with Perturbation Embedding Augmentation reads, changes and leaves alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from lightning import Callback

from semiclip._sides import pair_sides
from semiclip.correction import LADDER, PEA, correct
from semiclip.correction._augmentation import Augmentation
from semiclip.model import SemiClip


class Watch(Callback):
    """Keeps the data of a training, and what its adapter was shown of them."""

    def on_train_start(self, trainer, pl_module):
        self.data, self.shown, self.rows = trainer.datamodule, [], []
        self.before = {"student": self.data.tensors.student.clone(), "teacher": self.data.tensors.teacher.clone()}
        self.hook = pl_module.module.adapter.register_forward_pre_hook(self.look)

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.rows += [(trainer.current_epoch, each.row) for each in batch]

    def look(self, adapter, inputs):
        if adapter.training:
            self.shown.append(inputs[0].clone())

    def on_train_end(self, trainer, pl_module):
        self.hook.remove()


@pytest.fixture
def trained(mdata, setup, quiet):
    """Train from a seed, and watch."""

    def train(seed=0, epochs=2, model_kwargs=None, **kwargs):
        SemiClip.setup_mudata(mdata, **setup)
        torch.manual_seed(seed)
        model, watch = SemiClip(mdata, **(model_kwargs or {})), Watch()
        model.train(epochs, callbacks=[watch], batch_size=100, **quiet, **kwargs)
        return model, watch

    return train


def sides(model):

    return (
        model._read(model.adata, "student"),
        model._read(model.adata, "teacher"),
        pair_sides(model.adata, model.design),
    )


def weights(model):
    return torch.cat([parameter.detach().flatten() for parameter in model.module.parameters()])


def corrected(side, profile, **kwargs):
    return correct(side.values, side.batch, side.reference, profile=profile, ridge=0.5, **kwargs).astype(np.float32)


@pytest.mark.parametrize("pea", [True, False])
def test_the_teacher_is_the_corrected_one_from_beginning_to_end(trained, pea):
    model, watch = trained(pea=pea)
    _, teacher, pairing = sides(model)
    order = np.argsort(pairing.teacher, kind="stable")
    order = order[pairing.teacher[order] >= 0]
    # in another order of rows, so that the last digit may differ
    np.testing.assert_allclose(watch.data.tensors.teacher, corrected(teacher, "clean")[order], rtol=1e-5, atol=2e-6)
    assert torch.equal(watch.data.tensors.teacher, watch.before["teacher"])


def test_the_student_is_read_raw_and_not_written_to(trained, small_study):
    model, watch = trained(pea=True)
    raw = small_study.mdata["rna"].obsm["X_pca"].astype(np.float32)
    np.testing.assert_array_equal(watch.data.tensors.student.numpy(), raw)
    np.testing.assert_array_equal(model.adata["rna"].obsm["X_pca"], small_study.mdata["rna"].obsm["X_pca"])
    _, without = trained(pea=False)
    student, _, _ = sides(model)
    np.testing.assert_array_equal(without.data.tensors.student.numpy(), corrected(student, "batch"))
    assert without.data.augmentation is None


@pytest.mark.parametrize("pea", [True, {"granularity": "batch"}, {"control_law": "all", "bank_refresh": 2}])
def test_the_adapter_is_shown_augmented_rows_new_ones_in_each_epoch(trained, pea):
    model, watch = trained(pea=pea, epochs=3)
    student, _, _ = sides(model)
    alone = Augmentation(PEA.of(pea), student.values, student.batch, student.reference, seed=watch.data.seed)
    codes, raw = torch.as_tensor(student.batch), watch.before["student"]
    assert len(watch.shown) == len(watch.rows) == 3 * watch.data.n_batches
    for (epoch, rows), shown in zip(watch.rows, watch.shown, strict=True):
        alone.start_epoch(epoch)
        assert torch.equal(shown, alone(raw[rows], rows, codes[rows], epoch))
    assert len({epoch for epoch, _ in watch.rows}) == 3


def test_without_augmentation_the_adapter_is_shown_what_inference_sees(trained):
    model, watch = trained(pea=False)
    student, _, _ = sides(model)
    expected = torch.as_tensor(corrected(student, "batch"))
    for (_, rows), shown in zip(watch.rows, watch.shown, strict=True):
        assert torch.equal(shown, expected[rows])


@pytest.mark.parametrize("pea", [True, False])
def test_validation_and_inference_see_the_deterministic_correction(trained, pea):
    """Every step on all controls of the row's own batch, with the ridge of the model and no chance."""
    model, watch = trained(pea=pea)
    student, _, _ = sides(model)
    rows, expected = watch.data.val_idx, corrected(student, "batch")
    assert 0 < len(rows) < watch.data.n_train
    np.testing.assert_allclose(watch.data.validation.student, expected[rows], rtol=1e-6, atol=1e-6)
    with torch.no_grad():
        embedded = model.module(torch.as_tensor(expected)).numpy()
    np.testing.assert_allclose(model.get_latent_representation(), embedded, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(model.get_latent_representation(), model.get_latent_representation())
    assert np.isfinite(model.history["validation_loss"].to_numpy(dtype=float)).all()


def test_augmentation_changes_the_weights_and_the_seed_decides_them_to_a_bit(trained):
    with_pea, again, without, other = (
        weights(trained(seed, pea=pea)[0]) for seed, pea in ((0, True), (0, True), (0, False), (1, True))
    )
    assert torch.equal(with_pea, again)
    assert (with_pea != without).float().mean() > 0.9
    assert (with_pea != other).float().mean() > 0.9


def test_options_may_be_given_in_any_form_and_are_recorded(trained):
    options = {"drop_probability": 0.25, "methods": ["tvn"], "control_law": "log_uniform"}
    by_name, by_object = (trained(pea=pea)[0] for pea in (options, PEA(**options)))
    assert torch.equal(weights(by_name), weights(by_object))
    assert by_name.train_params_["pea"] == PEA(**options).params == by_object.train_params_["pea"]
    assert trained(pea=False)[0].train_params_["pea"] is False
    assert trained()[0].train_params_["pea"] == trained(pea=True)[0].train_params_["pea"] == PEA().params
    assert not torch.equal(weights(by_name), weights(trained(pea=True)[0]))


def test_dropping_every_step_is_training_on_raw_rows(trained):
    dropped, watch = trained(pea={"drop_probability": 1.0})
    for (_, rows), shown in zip(watch.rows, watch.shown, strict=True):
        assert torch.equal(shown, watch.before["student"][rows])
    raw, _ = trained(pea=False, model_kwargs={"student_correction": None})
    assert torch.equal(weights(dropped), weights(raw))


@pytest.mark.parametrize("rung", list(LADDER))
def test_every_rung_of_the_ladder_trains(trained, rung):
    switches = LADDER[rung]
    model, watch = trained(pea=switches["pea"], model_kwargs={"student_correction": switches["student_correction"]})
    student, _, _ = sides(model)
    raw = student.values.astype(np.float32)
    seen = raw if switches["student_correction"] is None else corrected(student, "batch")
    np.testing.assert_allclose(watch.data.validation.student, seen[watch.data.val_idx], rtol=1e-6, atol=1e-6)
    raw = torch.as_tensor(raw)
    as_it_is = [torch.equal(shown, raw[rows]) for (_, rows), shown in zip(watch.rows, watch.shown, strict=True)]
    assert as_it_is == [rung == "base"] * len(watch.rows)
    assert np.isfinite(model.get_latent_representation()).all()


@pytest.mark.parametrize(
    ("pea", "error", "message"),
    [
        ({"dropout": 0.5}, ValueError, "pea has no option dropout; there are methods, drop_probability"),
        ({"ridge": -1}, ValueError, "ridge=-1 must be at least 0"),
        (0.5, TypeError, "pea=0.5 is neither True, False, a dict of options nor a semiclip.correction.PEA"),
        ({"min_controls": 14}, ValueError, r"batch\(es\) have fewer than 14 controls: rna_batch_0 \(12\), rna_batch_1"),
    ],
)
def test_options_that_cannot_be_are_refused(untrained, quiet, pea, error, message):
    with pytest.raises(error, match=message):
        untrained.train(1, pea=pea, **quiet)
    assert not untrained.is_trained


def test_pooled_controls_serve_batches_with_too_few(trained, caplog):
    model, watch = trained(pea={"min_controls": 14}, model_kwargs={"fallback": "pooled"})
    student, _, _ = sides(model)
    assert watch.data.augmentation.count.tolist() == [student.reference.sum()] * 3
    assert "the pooled controls of all batches serve for 3 batch(es)" in caplog.text
