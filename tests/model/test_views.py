"""Cached views of augmented expression: how they are drawn, and what training sees of them."""

from __future__ import annotations

from contextlib import nullcontext

import mudata as md
import numpy as np
import pytest
import torch
from lightning import Callback

import semiclip as scl
from semiclip.correction import PEA
from semiclip.correction._augmentation import Augmentation
from semiclip.model import SemiClip
from semiclip.model._tensors import PairedTensors

KEY = "X_pca_mwo"


def marked(n, *numbers):
    """Views that carry their kind, their number and their row."""
    kinds = []
    for kind, number in enumerate(numbers):
        rows, views = np.meshgrid(np.arange(n), np.arange(number), indexing="ij")
        kinds.append(np.stack([np.full_like(rows, kind), views, rows], axis=2).astype(np.float32))
    return kinds


@pytest.fixture
def viewed():
    def make(*numbers, n=3):
        student = np.column_stack([np.full(n, -1), np.full(n, -1), np.arange(n)]).astype(np.float32)
        return PairedTensors.from_arrays(student, student, np.arange(n), np.arange(n), views=marked(n, *numbers))

    return make


@pytest.mark.parametrize("numbers", [(4,), (1, 3), (2, 5, 1)])
def test_all_kinds_and_none_are_equally_likely_and_so_are_the_views_of_a_kind(viewed, numbers):
    tensors, n = viewed(*numbers), 40_000
    place = torch.arange(n) % 3
    seen = tensors.seen(tensors.pair(torch.arange(n), place, 7, 0)).numpy()
    np.testing.assert_array_equal(seen[:, 2], place)
    share = 1 / (len(numbers) + 1)
    for kind, number in enumerate(numbers):
        for view in range(number):
            expected = share / number
            found = ((seen[:, 0] == kind) & (seen[:, 1] == view)).mean()
            assert abs(found - expected) < 4 * np.sqrt(expected / n)
    assert abs((seen[:, 0] == -1).mean() - share) < 4 * np.sqrt(share / n)


def test_a_view_is_a_function_of_counters_and_row_and_independent_of_the_partner(viewed):
    tensors, n = viewed(1), 20_000
    rows, place = torch.arange(n), torch.zeros(n, dtype=torch.long)
    drawn = tensors.pair(rows, place, 7, 0)
    some = torch.tensor([19_000, 3, 3])
    assert torch.equal(tensors.pair(rows[some], place[some], 7, 0).view, drawn.view[some])
    again = tensors.pair(rows, place, 7, 1).view
    assert abs(float((again == drawn.view).float().mean()) - 0.5) < 0.02
    # two teacher rows for the one key: which of them comes says nothing of the view
    both = PairedTensors.from_arrays(
        np.zeros((1, 3)), np.zeros((2, 2)), np.zeros(1, int), np.zeros(2, int), None, marked(1, 1)
    )
    pairs = both.pair(rows, place, 7, 0)
    assert abs(float(((pairs.view >= 0) == (pairs.teacher == 1)).float().mean()) - 0.5) < 0.02


def test_a_part_has_rows_as_they_are_seen_and_other_forms_have_no_views(viewed):
    tensors = viewed(2, 2)
    rows = torch.arange(30)
    pairs = tensors.pair(rows, rows % 3, 1)
    part = tensors.part(pairs, torch.device("cpu"))
    assert torch.equal(part.student, tensors.seen(pairs))
    held_out = tensors.seen_as(torch.tensor([2, 0]), torch.ones(2, 5))
    plain = held_out.pair(torch.tensor([2, 0]), torch.arange(2), 1)
    assert plain.view.tolist() == [-1, -1]
    assert torch.equal(held_out.seen(plain), torch.ones(2, 5))


def test_views_count_as_data_and_one_kind_is_not_copied(viewed):
    assert viewed(4).nbytes - viewed().nbytes == 4 * 3 * 4 * 3 + 8
    (views,) = marked(3, 2)
    tensors = PairedTensors.from_arrays(np.zeros((3, 3)), np.zeros((3, 3)), np.arange(3), np.arange(3), views=[views])
    assert tensors.views.data_ptr() == torch.as_tensor(views).data_ptr()


class Watch(Callback):
    """Keeps which views were drawn, and what the adapter was shown."""

    def on_train_start(self, trainer, pl_module):
        self.data, self.shown, self.pairs = trainer.datamodule, [], []
        self.hook = pl_module.module.adapter.register_forward_pre_hook(self.look)

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.pairs += [(trainer.current_epoch, each) for each in batch]

    def look(self, adapter, inputs):
        if adapter.training:
            self.shown.append(inputs[0].clone())

    def on_train_end(self, trainer, pl_module):
        self.hook.remove()


@pytest.fixture
def trained(mdata, setup, quiet):
    rna = mdata["rna"]
    noise = np.random.default_rng(0).normal(size=(rna.n_obs, 3, rna.obsm["X_pca"].shape[1])).astype(np.float32)
    noise[rna.obs["perturbation"] == "control"] = 0
    rna.obsm[KEY] = rna.obsm["X_pca"][:, None] + 0.3 * noise
    rna.obsm["same"] = np.repeat(rna.obsm["X_pca"][:, None], 2, axis=1)

    def train(epochs=2, **kwargs):
        SemiClip.setup_mudata(mdata, **setup)
        torch.manual_seed(0)
        model, watch = SemiClip(mdata), Watch()
        model.train(epochs, callbacks=[watch], batch_size=100, **{**quiet, **kwargs})
        return model, watch

    return train


def weights(model):
    return torch.cat([parameter.detach().flatten() for parameter in model.module.parameters()])


@pytest.mark.parametrize("pea", [True, False])
def test_views_that_are_the_embedding_itself_change_nothing(trained, pea):
    alone, augmented = (trained(pea=pea, views=augment)[0] for augment in (None, "same"))
    assert torch.equal(weights(alone), weights(augmented))


def test_without_pea_the_adapter_is_shown_views_corrected_as_their_samples_are(trained):
    model, watch = trained(pea=False, views=KEY)
    student = model._model._read(model.adata, "student")
    correction = student.correction("tvn", ridge=0.5, fallback="raise")
    views = model.adata["rna"].obsm[KEY]
    forms = [correction(values, student.batch) for values in (student.values, *np.moveaxis(views, 1, 0))]
    drawn = torch.cat([pairs.view for _, pairs in watch.pairs])
    assert set(drawn.tolist()) == {-1, 0, 1, 2}
    for (_, pairs), shown in zip(watch.pairs, watch.shown, strict=True):
        expected = np.stack([forms[view + 1][row] for view, row in zip(pairs.view, pairs.row, strict=True)])
        np.testing.assert_allclose(shown, expected, rtol=1e-5, atol=1e-5)


def test_pea_comes_on_top_of_the_views_with_the_controls_of_the_embedding(trained):
    model, watch = trained(pea=True, views=[KEY, "same"])
    student = model._model._read(model.adata, "student")
    alone = Augmentation(PEA(), student.values, student.batch, student.reference, seed=watch.data.seed)
    raw, views = student.values, np.concatenate([model.adata["rna"].obsm[key] for key in (KEY, "same")], axis=1)
    for (epoch, pairs), shown in zip(watch.pairs, watch.shown, strict=True):
        alone.start_epoch(epoch)
        rows = pairs.row.numpy()
        x = np.where(pairs.view[:, None] < 0, raw[rows], views[rows, pairs.view]).astype(np.float32)
        expected = alone(torch.as_tensor(x), pairs.row, torch.as_tensor(student.batch[rows]), epoch)
        assert torch.equal(shown, expected)


def test_validation_and_inference_see_no_views(trained):
    (alone, plain), (model, watch) = trained(pea=False), trained(pea=False, views=KEY)
    assert torch.equal(plain.data.validation.student, watch.data.validation.student)
    assert (weights(alone) != weights(model)).float().mean() > 0.9
    del model.adata["rna"].obsm[KEY]
    assert np.isfinite(model.get_latent_representation()).all()


def test_the_seed_decides_to_a_bit_also_where_data_stay_in_main_memory(trained):
    first, again = (trained(views=[KEY, "same"])[0] for _ in range(2))
    chunked, _ = trained(views=[KEY, "same"], datasplitter_kwargs={"chunk_rows": 100})
    assert torch.equal(weights(first), weights(again))
    assert torch.equal(weights(first), weights(chunked))


def test_views_are_named_in_what_a_model_remembers(trained, tmp_path):
    model, _ = trained(views=KEY)
    assert model.train_params_["augment"] == [KEY]
    assert trained()[0].train_params_["augment"] is False
    model.save(tmp_path / "model")
    loaded = SemiClip.load(tmp_path / "model", model.adata, accelerator="cpu")
    assert loaded.train_params_["augment"] == [KEY]
    model.adata.write_h5mu(tmp_path / "data.h5mu")
    back = md.read_h5mu(tmp_path / "data.h5mu")
    np.testing.assert_array_equal(back["rna"].obsm[KEY], model.adata["rna"].obsm[KEY])


def test_views_that_are_none_are_refused_before_anything_is_trained(trained, mdata):
    rna = mdata["rna"]
    with pytest.raises(KeyError, match=r"views='X_views' is not in obsm.*scl\.pp\.augment"):
        trained(views="X_views")
    with pytest.raises(ValueError, match=r"'X_pca'\] has shape \(\d+, 8\), but views of 'X_pca' have"):
        trained(views="X_pca")
    rna.obsm["narrow"] = rna.obsm[KEY][:, :, :3]
    with pytest.raises(ValueError, match=r"'narrow'\] has shape \(\d+, 3, 3\).*n_views, 8"):
        trained(views=[KEY, "narrow"])
    rna.obsm["gaps"] = rna.obsm[KEY].copy()
    rna.obsm["gaps"][4, 1, 2] = np.nan
    rna.obsm["stale"] = rna.obsm[KEY][:, :, ::-1].copy()
    with pytest.raises(ValueError, match=r"controls have other values in obsm\['stale'\] than in obsm\['X_pca'\]"):
        trained(views="stale")
    for size, refused in ((0.03, True), (0.001, False)):  # of the embedding, such as that of another seed
        noise = np.random.default_rng(0).normal(size=rna.obsm["X_pca"].shape).astype(np.float32)
        near = rna.obsm["X_pca"] + size * np.abs(rna.obsm["X_pca"]) * noise
        rna.obsm["near"] = near[:, None]
        with pytest.raises(ValueError, match="controls have other values") if refused else nullcontext():
            trained(views="near")
    with pytest.raises(ValueError, match=rf"'gaps'\] holds NaN or infinite values in 1 row\(s\): {rna.obs_names[4]}"):
        trained(views="gaps")


@pytest.mark.parametrize("stored", [False, True])
def test_views_that_mix_what_a_split_keeps_apart_are_refused(mdata, setup, quiet, tmp_path, stored):
    rna = mdata["rna"]
    rna.obs["run"] = np.random.default_rng(0).integers(4, size=rna.n_obs)
    encoder = scl.pp.encode(rna, encoder="pca", n_components=8)
    keys = {name: setup[name] for name in ("pair_on", "perturbation_key", "control", "batch_key")}
    for key, change in {
        KEY: {},
        "by_run": {"split_key": "run"},
        "by_compound": {"pair_on": "perturbation"},
        "by_dose": {"pair_on": "dose"},
    }.items():
        scl.pp.augment(rna, "mwo", encoder=encoder, **{**keys, **change}, key_added=key, progress_bar=False)
    if stored:
        mdata.write_h5mu(tmp_path / "data.h5mu")
        mdata = md.read_h5mu(tmp_path / "data.h5mu")

    def train(augment, **changed):
        SemiClip.setup_mudata(mdata, **{**setup, **changed})
        SemiClip(mdata).train(1, views=augment, **quiet)

    train(KEY)
    train("by_run", split_key="run")
    train("by_run")  # within less than the split holds together
    train("by_compound")
    train(KEY, pair_on="perturbation")
    mixed = rf"'{KEY}'\] mix samples that a split keeps apart: they were made within perturbation, dose, and the split "
    with pytest.raises(ValueError, match=rf"{mixed}goes by split_key='run'; make them again by scl\.pp\.augment"):
        train(KEY, split_key="run")
    with pytest.raises(ValueError, match="within dose, and the split goes by perturbations, those of one key together"):
        train("by_dose")
    del mdata["rna"].uns["semiclip"][KEY]  # made elsewhere
    train(KEY, split_key="run")


def test_views_by_another_encoder_are_refused_also_without_controls(mdata, setup, quiet):
    rna = mdata["rna"]
    encoder = scl.pp.encode(rna, encoder="pca", n_components=8)
    other = scl.encoders.PCAEncoder(n_components=8).fit(rna[: rna.n_obs // 2])
    keys = {**{name: setup[name] for name in ("pair_on", "perturbation_key", "batch_key")}, "control": None}
    SemiClip.setup_mudata(mdata, **{**setup, "control": None})
    for each in (encoder, other):
        scl.pp.augment(rna, "mwo", encoder=each, **keys, progress_bar=False)
        refused = pytest.raises(ValueError, match=rf"'{KEY}'\] was made with another encoder than obsm\['X_pca'\]")
        with nullcontext() if each is encoder else refused:
            SemiClip(mdata).train(1, views=KEY, **quiet)
