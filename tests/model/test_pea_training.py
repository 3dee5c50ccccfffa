"""What training with Perturbation Embedding Augmentation and with cached views reads, changes and leaves alone."""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import pytest
import torch
from lightning import Callback

import semiclip as scl
from semiclip import errors
from semiclip.correction import LADDER, PEA, Augmentation, correct, fit_correction
from semiclip.model import SemiClip, _data

KEY, SAME = "X_pca_mwo", "X_pca_same"


class Watch(Callback):
    """Keeps the data of a training, which rows and views were drawn, and what the adapter was shown of them."""

    def on_train_start(self, trainer, pl_module):
        self.data, self.shown, self.pairs = trainer.datamodule, [], []
        self.hook = pl_module.module.adapter.register_forward_pre_hook(self.look)

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.pairs += [(trainer.current_epoch, pairs) for pairs in batch]

    def look(self, adapter, inputs):
        if adapter.training:
            self.shown.append(inputs[0].clone())

    def on_train_end(self, trainer, pl_module):
        self.hook.remove()

    @property
    def steps(self):
        assert len(self.shown) == len(self.pairs)
        return [(epoch, pairs, shown) for (epoch, pairs), shown in zip(self.pairs, self.shown, strict=True)]


@pytest.fixture
def trained(mdata, setup, quiet):
    """Train from a seed, and watch; two keys hold views of the student."""
    rna = mdata["rna"]
    x = rna.obsm["X_pca"]
    noise = np.random.default_rng(0).normal(size=(rna.n_obs, 3, x.shape[1])).astype(np.float32)
    noise[rna.obs["perturbation"] == "control"] = 0
    rna.obsm[KEY] = (x[:, None] + 0.3 * noise).reshape(rna.n_obs, -1)
    rna.obsm[SAME] = np.tile(x, 2)

    def train(seed=0, epochs=2, model_kwargs=None, **kwargs):
        SemiClip.setup_mudata(mdata, **setup)
        torch.manual_seed(seed)
        model, watch = SemiClip(mdata, **(model_kwargs or {})), Watch()
        model.train(epochs, callbacks=[watch], batch_size=100, **quiet, **kwargs)
        return model, watch

    return train


def observed(adata, key):
    batch = adata.obs["batch"].cat.codes.to_numpy().astype(np.int64)
    return adata.obsm[key], batch, (adata.obs["perturbation"] == "control").to_numpy()


@pytest.fixture
def raw(small_study):
    """Raw rows of the student, their batches and which are controls."""
    return observed(small_study.mdata["rna"], "X_pca")


@pytest.fixture
def corrected(raw):
    """Rows of the student as inference sees them."""
    return correct(*raw, profile="batch", ridge=0.5).astype(np.float32)


def weights(model):
    return torch.cat([parameter.detach().flatten() for parameter in model.module.parameters()])


@pytest.mark.parametrize("pea", [True, False])
def test_the_teacher_is_corrected_on_all_controls_and_stays_so(trained, mdata, pea):
    model, watch = trained(pea=pea)
    tensors, images = watch.data.tensors, mdata["image"]
    taught = correct(*observed(images, "X_image"), profile="clean", ridge=0.5)
    columns = ["perturbation", "dose"]
    partners = images.obs.reset_index().groupby(columns, observed=True).indices
    for row in watch.data.train_idx[::7]:
        key = tuple(mdata["rna"].obs[columns].iloc[row])
        code = tensors.key[row]
        rows = tensors.teacher[tensors.start[code] : tensors.start[code] + tensors.count[code]]
        np.testing.assert_allclose(rows, taught[partners[key]], rtol=1e-5, atol=2e-6)
    assert len(tensors.teacher) == (images.obs["perturbation"] != "control").sum()


def test_the_student_is_read_raw_with_pea_and_corrected_without_and_not_written_to(trained, raw, corrected):
    model, watch = trained(pea=True)
    np.testing.assert_array_equal(watch.data.tensors.student.numpy(), raw[0].astype(np.float32))
    np.testing.assert_array_equal(model.adata["rna"].obsm["X_pca"], raw[0])
    _, without = trained(pea=False)
    np.testing.assert_array_equal(without.data.tensors.student.numpy(), corrected)
    assert without.data.augmentation is None
    # written out: an eigenvalue of the batch's scaled controls becomes its share of itself and the ridge
    x, batch, control = raw
    for code in range(3):
        mine = (batch == code) & control
        standard = (x[mine] - x[mine].mean(axis=0, dtype=float)) / x[mine].std(axis=0, dtype=float)
        values, vectors = np.linalg.eigh(np.cov(standard.T, ddof=0))
        by_hand = standard @ (vectors / np.sqrt(values + 0.5)) @ vectors.T
        np.testing.assert_allclose(corrected[mine], by_hand, atol=1e-4)


@pytest.mark.parametrize(
    ("pea", "views"),
    [
        (True, []),
        ({"granularity": "batch"}, []),
        ({"control_law": "all", "bank_refresh": 2}, []),
        (True, [KEY, SAME]),  # PEA comes on top, with the controls of the embedding
    ],
)
def test_the_adapter_is_shown_augmented_rows_new_ones_in_each_epoch(trained, mdata, raw, pea, views):
    _, watch = trained(pea=pea, epochs=3, views=views)
    x, batch, control = raw
    alone = Augmentation(PEA.of(pea), x, batch, control, seed=watch.data.seed)
    forms = np.concatenate([x, *(mdata["rna"].obsm[key] for key in views)], axis=1, dtype=np.float32)
    forms = torch.as_tensor(forms.reshape(len(x), -1, x.shape[1]))
    assert len(watch.steps) == 3 * watch.data.n_batches
    for epoch, pairs, shown in watch.steps:
        alone.start_epoch(epoch)
        rows = pairs.row
        assert torch.equal(shown, alone(forms[rows, pairs.view + 1], rows, torch.as_tensor(batch)[rows]))
    assert {epoch for epoch, _, _ in watch.steps} == {0, 1, 2}


@pytest.mark.parametrize("pea", [True, {"granularity": "batch"}])
def test_how_many_mini_batches_are_augmented_together_does_not_show(trained, monkeypatch, pea):
    together, _ = trained(pea=pea, epochs=3, views=[KEY])
    calls, augment = [], Augmentation.__call__

    def counted(self, x, *rest):
        calls.append(len(x))
        return augment(self, x, *rest)

    monkeypatch.setattr(Augmentation, "__call__", counted)
    for ahead, n_bytes in ((True, 1 << 24), (True, 0), (False, 0)):
        monkeypatch.setattr(_data, "AHEAD_BYTES", n_bytes)
        is_ahead = property(lambda _, ahead=ahead: ahead, lambda *_: None)
        monkeypatch.setattr(_data.PairedDataModule, "augments_ahead", is_ahead)
        calls.clear()
        alone, watch = trained(pea=pea, epochs=3, views=[KEY])
        assert torch.equal(weights(alone), weights(together))
        assert watch.data.n_batches == 2
        assert calls == (3 * [200] if n_bytes and pea is True else 6 * [100])


def test_the_seed_decides_the_weights_to_a_bit_and_options_may_be_given_in_any_form(trained):
    options = {"drop_probability": 0.25, "methods": ["tvn"], "control_law": "log_uniform"}
    usual, again, without, other, by_name, by_object = (
        trained(seed, pea=pea)[0]
        for seed, pea in ((0, True), (0, None), (0, False), (1, True), (0, options), (0, PEA(**options)))
    )
    assert torch.equal(weights(usual), weights(again))
    assert torch.equal(weights(by_name), weights(by_object))
    for model in (without, other, by_name):
        assert (weights(model) != weights(usual)).float().mean() > 0.9
    assert without.train_params_["pea"] is False
    assert usual.train_params_["pea"] == again.train_params_["pea"] == PEA().params
    assert by_name.train_params_["pea"] == by_object.train_params_["pea"] == PEA(**options).params


def test_dropping_every_step_is_training_on_raw_rows(trained):
    dropped, _ = trained(pea={"drop_probability": 1.0})
    uncorrected, _ = trained(pea=False, model_kwargs={"student_correction": None})
    assert torch.equal(weights(dropped), weights(uncorrected))


@pytest.mark.parametrize("rung", list(LADDER))
def test_on_every_rung_of_the_ladder_validation_and_inference_leave_nothing_to_chance(trained, raw, corrected, rung):
    """Every step on all controls of the row's own batch, with the ridge of the model."""
    switches = LADDER[rung]
    model, watch = trained(pea=switches["pea"], model_kwargs={"student_correction": switches["student_correction"]})
    x, rows = raw[0].astype(np.float32), watch.data.val_idx
    seen = x if switches["student_correction"] is None else corrected
    assert 0 < len(rows) < watch.data.n_train
    np.testing.assert_allclose(watch.data.validation.student, seen[rows], rtol=1e-6, atol=1e-6)
    as_it_is = [np.array_equal(shown, x[pairs.row]) for _, pairs, shown in watch.steps]
    assert as_it_is == [rung == "base"] * len(watch.steps)
    with torch.no_grad():
        embedded = model.module(torch.as_tensor(seen)).numpy()
    np.testing.assert_allclose(model.get_latent_representation(), embedded, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(model.get_latent_representation(), model.get_latent_representation())
    assert np.isfinite(model.history["validation_loss"].to_numpy(dtype=float)).all()


def test_options_that_cannot_be_are_refused(untrained, quiet, refuses):
    few = {f"rna_batch_{i}": 12 for i in range(3)}
    for pea, error, data in (
        ({"dropout": 0.5}, errors.UnknownChoice, {"value": "dropout"}),
        (0.5, errors.WrongType, {"name": "pea", "got": float}),
        ({"min_controls": 14}, errors.TooFewControls, {"batches": few, "needed": 14, "total": 36}),
    ):
        with refuses(error, **data):
            untrained.train(1, pea=pea, **quiet)
    assert not untrained.is_trained


def test_pooled_controls_serve_batches_with_too_few(trained, raw, caplog):
    _, watch = trained(pea={"min_controls": 14}, model_kwargs={"fallback": "pooled"})
    assert watch.data.augmentation.pools.count.tolist() == [raw[2].sum()] * 3
    assert [record.levelname for record in caplog.records if record.name.startswith("semiclip.correction")]


# ---- cached views


def test_without_pea_the_adapter_is_shown_views_corrected_as_their_samples_are(trained, mdata, raw):
    _, watch = trained(pea=False, views=KEY)
    x, batch, control = raw
    correction = fit_correction(x, batch, control, profile="batch", ridge=0.5)
    forms = np.stack([correction(values, batch) for values in (x, *np.split(mdata["rna"].obsm[KEY], 3, axis=1))], 1)
    assert {view for _, pairs, _ in watch.steps for view in pairs.view.tolist()} == {-1, 0, 1, 2}
    for _, pairs, shown in watch.steps:
        np.testing.assert_allclose(shown, forms[pairs.row, pairs.view + 1], rtol=1e-5, atol=1e-5)


def test_validation_and_inference_see_no_views(trained):
    (alone, plain), (model, watch) = trained(pea=False), trained(pea=False, views=KEY)
    assert torch.equal(plain.data.validation.student, watch.data.validation.student)
    assert (weights(alone) != weights(model)).float().mean() > 0.9
    del model.adata["rna"].obsm[KEY]
    assert np.isfinite(model.get_latent_representation()).all()


@pytest.mark.parametrize("pea", [True, False])
def test_views_and_chunks_of_data_in_main_memory_change_no_bit(trained, pea, caplog):
    alone, same, first, *others = (
        trained(pea=pea, views=views, datasplitter_kwargs={"chunk_rows": chunk_rows})[0]
        for views, chunk_rows in (
            (None, None), (SAME, None), ([KEY, SAME], None), ([KEY, SAME], None), ([KEY, SAME], 100), ([KEY, SAME], 230)
        )
    )  # fmt: skip
    assert torch.equal(weights(alone), weights(same)), "views are the embedding itself"
    assert not torch.equal(weights(alone), weights(first))
    for model in others:
        assert torch.equal(weights(first), weights(model))
        for name, curve in first.history.items():
            np.testing.assert_array_equal(model.history[name].to_numpy(float), curve.to_numpy(float))
    told = [record.args[1:] for record in caplog.records if record.name == "semiclip.model._data"]
    assert told == [(100, torch.device("cpu")), (230, torch.device("cpu"))]


def test_views_are_named_in_what_a_model_remembers(trained, tmp_path, through_h5mu):
    model, _ = trained(views=KEY)
    assert model.train_params_["views"] == [KEY]
    assert trained()[0].train_params_["views"] is False
    model.save(tmp_path / "model")
    data = through_h5mu(model.adata)
    assert SemiClip.load(tmp_path / "model", data, accelerator="cpu").train_params_["views"] == [KEY]
    with pytest.warns(FutureWarning):
        renamed, _ = trained(augment=KEY)
    assert torch.equal(weights(renamed), weights(model))


def test_views_that_are_none_are_refused_before_anything_is_trained(trained, mdata, refuses):
    rna = mdata["rna"]
    x, views = rna.obsm["X_pca"], rna.obsm[KEY]
    noise = np.abs(x) * np.random.default_rng(0).normal(size=x.shape).astype(np.float32)
    gaps = views.copy()
    gaps[4, 10] = np.nan
    spoiled = {
        "narrow": views[:, :9],
        "deep": views.reshape(rna.n_obs, 3, -1),
        "gaps": gaps,
        "stale": np.ascontiguousarray(views[:, ::-1]),
        "another_seed": x + 0.03 * noise,
        "another_device": x + 0.001 * noise,
    }
    for key, values in spoiled.items():
        rna.obsm[key] = values
    trained(views="another_device", epochs=1)
    rna.obsm["another_encoder"] = spoiled["another_device"]
    rna.uns["semiclip"]["another_encoder"] = {"fingerprint": "another"}
    for key, error, data in (
        ("absent", errors.MissingEntry, {"key": "absent"}),
        ("narrow", errors.WrongShape, {"shape": (rna.n_obs, 9)}),
        ("deep", errors.WrongShape, {"shape": (rna.n_obs, 3, 8)}),
        ("gaps", errors.NotFinite, {"rows": [rna.obs_names[4]]}),
        ("stale", errors.Refused, {}),
        ("another_seed", errors.Refused, {}),
        ("another_encoder", errors.Refused, {}),
    ):
        with refuses(error, **data):
            trained(views=[KEY, key])


@pytest.mark.filterwarnings("ignore::semiclip.errors.SemiclipWarning")  # of samples without another
@pytest.mark.parametrize("stored", [False, True])
def test_views_that_mix_what_a_split_keeps_apart_are_refused(mdata, setup, quiet, refuses, through_h5mu, stored):
    rna = mdata["rna"]
    rna.obs["run"] = np.random.default_rng(0).integers(4, size=rna.n_obs)
    keys = {name: setup[name] for name in ("pair_on", "perturbation_key", "control", "batch_key")}
    keys |= {"encoder": scl.pp.encode(rna, encoder="pca", n_components=8), "progress_bar": False}
    for key, change in {
        KEY: {},
        "by_run": {"split_key": "run"},
        "by_compound": {"pair_on": "perturbation"},
        "by_dose": {"pair_on": "dose"},
    }.items():
        scl.pp.augment(rna, "mwo", **keys | change, key_added=key)
    if stored:
        mdata = through_h5mu(mdata)
    for views, change, mixed in (
        (KEY, {}, None),
        ("by_run", {"split_key": "run"}, None),
        ("by_run", {}, None),  # within less than the split holds together
        ("by_compound", {}, None),
        (KEY, {"pair_on": "perturbation"}, None),
        (KEY, {"split_key": "run"}, ["perturbation", "dose"]),
        ("by_dose", {}, ["dose"]),
    ):
        SemiClip.setup_mudata(mdata, **setup | change)
        with refuses(errors.Refused, items=mixed) if mixed else nullcontext():
            SemiClip(mdata).train(1, views=views, **quiet)
    del mdata["rna"].uns["semiclip"][KEY]  # made elsewhere
    SemiClip.setup_mudata(mdata, **setup | {"split_key": "run"})
    SemiClip(mdata).train(1, views=KEY, **quiet)
