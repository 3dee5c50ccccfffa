"""Calls that cannot go on name a way that can be gone."""

from __future__ import annotations

import logging
import re

import anndata
import numpy as np
import pytest
from mudata import MuData

from semiclip.baselines import BASELINES
from semiclip.model import Baseline, SemiClip

BARE = (
    "1 batch(es) have fewer than two controls: {} (0). Mark their controls, drop these batches, or correct them with "
)
INFERENCE = 'the controls of all batches by fallback="pooled"'
TRAINING = (
    'the controls of all batches by fallback="pooled" of the model (model_kwargs={"fallback": "pooled"} of '
    "scl.tl.semiclip)"
)


def exactly(text):
    return f"^{re.escape(text)}$"


def bare(adata):
    """Leave the controls of the first batch out, and say which it is."""
    first = sorted(adata.obs["batch"].unique())[0]
    there = ~((adata.obs["batch"] == first) & (adata.obs["perturbation"] == "control"))
    return adata[there.to_numpy()].copy(), first


class TestBatchesWithoutControls:
    def test_a_query_is_embedded_on_the_pooled_controls(self, model, knockouts):
        query, first = bare(knockouts)
        with pytest.raises(ValueError, match=exactly(BARE.format(first) + INFERENCE)):
            model.get_latent_representation(query)
        with pytest.raises(ValueError, match=exactly(BARE.format(first) + INFERENCE)):
            model.get_latent_representation(query, fallback="raise")
        embedded = model.get_latent_representation(query, fallback="pooled")
        mine = (query.obs["batch"] == first).to_numpy()
        # batches with controls have what they had
        whole = model.get_latent_representation(knockouts)[knockouts.obs_names.isin(query.obs_names)]
        np.testing.assert_allclose(embedded[~mine], whole[~mine], atol=1e-6)
        # and the other is as if it were one batch with all controls
        together = query[mine | (query.obs["perturbation"] == "control").to_numpy()].copy()
        expected = model.get_latent_representation(together, batch_key=None)
        np.testing.assert_allclose(
            embedded[mine], expected[(together.obs["batch"] == first).to_numpy()], rtol=1e-4, atol=1e-4
        )

    def test_the_models_own_fallback_is_the_default(self, mdata, setup, quiet, knockouts):
        query, first = bare(knockouts)
        SemiClip.setup_mudata(mdata, **setup)
        pooled = SemiClip(mdata, fallback="pooled")
        pooled.train(1, **quiet)
        np.testing.assert_array_equal(
            pooled.get_latent_representation(query), pooled.get_latent_representation(query, fallback="pooled")
        )
        with pytest.raises(ValueError, match=exactly(BARE.format(first) + INFERENCE)):
            pooled.get_latent_representation(query, fallback="raise")
        with pytest.raises(ValueError, match="^fallback='skip' is not one of raise, pooled$"):
            pooled.get_latent_representation(query, fallback="skip")

    @pytest.mark.parametrize("side", ["rna", "image"])
    @pytest.mark.parametrize("model_cls", [SemiClip, Baseline])
    @pytest.mark.parametrize("pea", [None, False])
    def test_training_names_the_argument_of_the_model(self, mdata, setup, model_cls, side, pea):
        sides = dict(mdata.mod)
        sides[side], first = bare(sides[side])
        mdata = MuData(sides)
        model_cls.setup_mudata(mdata, **setup)
        with pytest.raises(ValueError, match=exactly(BARE.format(first) + TRAINING)):
            model_cls(mdata).train(1, pea=pea)

    def test_too_few_for_pea_alone(self, mdata, setup):
        SemiClip.setup_mudata(mdata, **setup)
        with pytest.raises(ValueError, match=f"3 .* have fewer than 13 controls: .*{re.escape(TRAINING)}$"):
            SemiClip(mdata).train(1, pea={"min_controls": 13})


class TestArguments:
    @pytest.mark.parametrize(
        ("given", "hint"),
        [
            ({"n_hidden": (3,)}, "it is an argument of the model: SemiClip(mdata, n_hidden=…)"),
            ({"temperature": 0.2}, "it is an argument of the model: SemiClip(mdata, temperature=…)"),
            ({"lr": 0.1}, "it is an argument of the training plan: plan_kwargs={'lr': …}"),
            ({"learning_rate": 0.1}, "did you mean 'lr' of the training plan: plan_kwargs={'lr': …}?"),
            ({"min_controls": 3}, "it is an argument of the augmentation: pea={'min_controls': …}"),
            ({"chunk_rows": 3}, "it is an argument of the split: datasplitter_kwargs={'chunk_rows': …}"),
            ({"bach_size": 5}, "did you mean 'batch_size'?"),
            ({"n_epochs": 5}, "did you mean 'max_epochs'?"),
            ({"gradient_clip": 1.0}, "did you mean 'gradient_clip_val'?"),
        ],
    )
    def test_what_training_does_not_take_is_refused_first(self, untrained, given, hint):
        message = f"training: got an unexpected keyword argument {next(iter(given))!r}; {hint}"
        with pytest.raises(TypeError, match=exactly(message)):
            untrained.train(2, accelerator="none such", **given)
        assert not untrained.is_trained

    def test_what_is_like_nothing_shows_all(self, untrained):
        with pytest.raises(
            TypeError, match="argument 'xyz'; train takes max_epochs, pea, augment, .*datasplitter_kwargs$"
        ):
            untrained.train(xyz=1)

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            (
                {"plan_kwargs": {"learning_rate": 1}},
                "plan_kwargs: got an unexpected keyword argument 'learning_rate'; did",
            ),
            ({"plan_kwargs": {"momentun": 1}}, "argument 'momentun'; did you mean 'momentum'?"),
            (
                {"datasplitter_kwargs": {"chunk": 1}},
                "datasplitter_kwargs: got an unexpected keyword argument 'chunk'; ",
            ),
        ],
    )
    def test_of_the_plan_and_the_split(self, untrained, given, message):
        with pytest.raises(TypeError, match=re.escape(message)):
            untrained.train(1, **given)

    @pytest.mark.parametrize("model_cls", [SemiClip, Baseline])
    def test_those_of_the_trainer_pass(self, mdata, setup, quiet, model_cls):
        model_cls.setup_mudata(mdata, **setup)
        model = model_cls(mdata)
        more = {"gradient_clip_val": 1.0, "num_sanity_val_steps": 0, "log_save_dir": None, "deterministic": False}
        model.train(1, early_stopping_patience=3, min_epochs=1, **more, **quiet)
        assert model.is_trained

    @pytest.mark.parametrize("method", BASELINES)
    def test_of_baselines(self, mdata, setup, method):
        Baseline.setup_mudata(mdata, **setup)
        message = "'fallback'; it is an argument of the model: Baseline(mdata, fallback=…)"
        with pytest.raises(TypeError, match=re.escape(message)):
            Baseline(mdata, method=method).train(fallback="pooled")


class TestControlLabels:
    """Modalities may call their controls differently, and queries need not have all labels."""

    @pytest.fixture
    def renamed(self, mdata):
        for name, label in (("rna", "DMSO"), ("image", "negcon")):
            obs = mdata[name].obs
            obs["perturbation"] = obs["perturbation"].astype(str).replace("control", label)
        return mdata

    def test_each_modality_its_own(self, renamed, small_study, setup, quiet, knockouts):
        embedded = []
        for data, control in ((small_study.mdata.copy(), "control"), (renamed, ["DMSO", "negcon"])):
            SemiClip.setup_mudata(data, **setup | {"control": control})
            model = SemiClip(data)
            model.split_seed_ = 0
            with np.errstate(all="raise"):
                tensors = model._pair_data(None, [], train_size=0.9).host
            embedded.append((tensors.student.numpy(), tensors.teacher.numpy(), tensors.key.numpy()))
        for ours, theirs in zip(*embedded, strict=True):
            np.testing.assert_array_equal(ours, theirs)
        model.train(1, **quiet)
        knockouts.obs["perturbation"] = knockouts.obs["perturbation"].astype(str).replace("control", "DMSO")
        found = model.get_latent_representation(knockouts)
        np.testing.assert_array_equal(found, model.get_latent_representation(knockouts, control="DMSO"))
        both = MuData({"rna": knockouts, "image": small_study.knockouts["image"].copy()})
        both["image"].obs["perturbation"] = both["image"].obs["perturbation"].astype(str).replace("control", "negcon")
        np.testing.assert_array_equal(found, model.get_latent_representation(both, control=["DMSO", "negcon"]))

    def test_what_is_nowhere_is_refused(self, renamed, setup):
        with pytest.raises(
            ValueError, match=r"control label\(s\) water match no row of obs\['perturbation'\] of any mod"
        ):
            SemiClip.setup_mudata(renamed, **setup | {"control": ["DMSO", "negcon", "water"]})
        with pytest.raises(ValueError, match=r"control label\(s\) negcon match no row.*DMSO.*several where modalities"):
            SemiClip.setup_mudata(renamed, **setup | {"control": ["negcon"]})

    def test_of_what_is_named_for_one_query_all_must_be_there(self, model, knockouts):
        for query in (knockouts, MuData({"rna": knockouts})):
            with pytest.raises(
                ValueError, match=r"control label\(s\) water match no row of obs\['perturbation'\]; its"
            ):
                model.get_latent_representation(query, control=["control", "water"])

    def test_of_an_anndata_all(self, setup):
        rng = np.random.default_rng(0)
        adata = anndata.AnnData(obsm={"X_pca": rng.normal(size=(9, 2)), "X_image": rng.normal(size=(9, 2))})
        adata.obs["perturbation"] = ["control", "a", "b"] * 3
        keys = {name: setup[name] for name in ("student_rep", "teacher_rep", "perturbation_key")}
        with pytest.raises(ValueError, match=r"control label\(s\) water match no row"):
            SemiClip.setup_anndata(adata, **keys, control=["control", "water"])


def test_controls_need_no_key(mdata, setup, quiet, small_study):
    for adata in mdata.mod.values():
        adata.obs["dose"] = adata.obs["dose"].where(adata.obs["perturbation"] != "control")
    embedded = []
    for data in (mdata, small_study.mdata.copy()):
        SemiClip.setup_mudata(data, **setup)
        model = SemiClip(data)
        drawn = model._pair_data(None, [], train_size=0.9).host
        embedded.append(drawn.key.numpy())
    np.testing.assert_array_equal(*embedded)
    with pytest.raises(ValueError, match=r"obs\['dose'\] \(pair_on\) has no value in 36 row\(s\)"):
        SemiClip.setup_mudata(mdata, **setup | {"control": None})


def test_the_setup_says_what_pairs(mdata, setup, caplog):
    def said():
        caplog.clear()
        SemiClip.setup_mudata(mdata, **setup)
        return [(record.levelname, record.getMessage()) for record in caplog.records if "semiclip" in record.name]

    rna, image = ((mdata[name].obs["perturbation"] != "control").sum() for name in ("rna", "image"))
    everything = (
        f"72 keys are shared, of 72 in rna and 72 in image; of the treated rows, {rna} of {rna} in rna and "
        f"{image} of {image} in image have a partner, and the others take no part"
    )
    with caplog.at_level(logging.INFO, logger="semiclip"):
        assert said() == [("INFO", everything)]
        obs = mdata["image"].obs
        names = [name for name in obs["perturbation"].unique() if name != "control"][3:]
        obs["perturbation"] = obs["perturbation"].astype(str).replace({name: f"{name} (image)" for name in names})
        (info, text), (warning, way) = said()
    assert (info, warning) == ("INFO", "WARNING")
    assert text.startswith("9 keys are shared, of 72 in rna and 72 in image; ")
    assert way.startswith(f"9 of 72 keys and {rna // 8} of {rna} treated rows in rna have a partner in image: if these")
    assert "scl.pp.check(mdata, ...)" in way


@pytest.mark.parametrize("named", ["rna", "protein"])
def test_a_query_without_the_models_modality_names_the_way_out(model, knockouts, named):
    query = MuData({named: knockouts, "image": anndata.AnnData(obs=knockouts.obs)})
    if named == "rna":
        np.testing.assert_array_equal(
            model.get_latent_representation(query), model.get_latent_representation(knockouts)
        )
        return
    message = "the MuData has no modality 'rna', only protein, image; pass the AnnData itself, such as mdata['protein']"
    with pytest.raises(KeyError, match=re.escape(message)):
        model.get_latent_representation(query)
