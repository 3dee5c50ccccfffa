"""A model of another screen that starts from a reference, which stays as it is."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from lightning import Callback
from lightning.pytorch.callbacks import ModelCheckpoint
from mudata import MuData

import semiclip as scl
from semiclip import errors
from semiclip.model import Baseline, SemiClip
from semiclip.objectives import PRESETS

COLUMNS = {"perturbation_key": "perturbation", "control": "control", "batch_key": "batch"}
NEW = {"pair_on": "perturbation"}
RATE = {"plan_kwargs": {"lr": 0.01}}


@pytest.fixture(scope="module")
def references(shared_study):
    options = {"student_rep": "X_pca", "teacher_rep": "X_image", "pair_on": ["perturbation", "dose"], **COLUMNS}
    options |= {"rng": 0, "accelerator": "cpu", "enable_progress_bar": False}

    def train(objective="semiclip", **kwargs):
        call = scl.tl.semiclip if objective == "semiclip" else scl.tl.distill
        kwargs |= {} if objective == "semiclip" else {"objective": objective}
        return call(shared_study.mdata.copy(), **options, **kwargs)

    return {
        "shared": train(),
        "beside the student": train(model_kwargs={"distilled_weight": 0.5}),
        "whole": train(recipe="whole", max_epochs=2),
        "teacher adapted": train(objective="clip", max_epochs=2),
        "classes": train(objective="kd", max_epochs=2, pretrain_epochs=1),
    }


@pytest.fixture
def reference(references):
    return references["shared"]


@pytest.fixture
def screen(shared_study):
    """Other perturbations in other batches, in both modalities."""
    return shared_study.knockouts.copy()


def weights(model):
    return {name: value.clone() for name, value in model.module.state_dict().items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def state(model):
    """Return all that a model knows, by value."""
    names = [name for name in vars(model) if name.endswith("_") and name not in ("registry_",)]
    values = {name: copy.deepcopy(getattr(model, name)) for name in names}
    return {**values, "history_": {name: curve.to_numpy().tolist() for name, curve in model.history.items()}}


def assert_same_state(one, other):
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_equal(one[name], other[name], err_msg=name)


@pytest.mark.parametrize("kind", ["shared", "beside the student", "whole", "teacher adapted", "classes"])
def test_it_embeds_as_the_reference_until_it_is_trained(references, screen, quiet, kind):
    reference = references[kind]
    before, known, registry = weights(reference), state(reference), copy.deepcopy(reference.registry_)
    expected = reference.get_latent_representation(screen)
    model = SemiClip.load_query_data(screen, reference, accelerator="cpu", **NEW)
    np.testing.assert_array_equal(model.get_latent_representation(), expected)
    assert model.adata is screen
    assert reference.adata is not screen
    assert not {id(value) for value in model.module.parameters()} & {
        id(value) for value in reference.module.parameters()
    }
    model.train(2, **quiet, **RATE)
    assert not np.array_equal(model.get_latent_representation(), expected)
    # the reference is as it was, also after the other was trained
    assert same(weights(reference), before)
    assert_same_state(state(reference), known)
    np.testing.assert_equal(reference.registry_, registry)
    np.testing.assert_array_equal(reference.get_latent_representation(screen), expected)


def test_a_folder_is_a_reference_and_stays_as_it_is(reference, screen, quiet, tmp_path):
    reference.save(tmp_path / "model", save_anndata=True)
    files = {path: path.read_bytes() for path in (tmp_path / "model").iterdir()}
    model = SemiClip.load_query_data(screen, tmp_path / "model", accelerator="cpu", **NEW)
    np.testing.assert_array_equal(model.get_latent_representation(), reference.get_latent_representation(screen))
    model.train(2, **quiet, **RATE)
    assert {path: path.read_bytes() for path in (tmp_path / "model").iterdir()} == files


def test_shared_directions_are_those_of_the_reference(reference, screen, quiet):
    model = SemiClip.load_query_data(screen, reference, accelerator="cpu", **NEW)
    model.train(2, **quiet, **RATE)
    for name, values in reference.projection_.items():
        np.testing.assert_array_equal(model.projection_[name], values)
    taught = [
        scl.tl.embed_teacher(screen, one, key_added="X_taught", copy=True)["image"].obsm["X_taught"]
        for one in (model, reference)
    ]
    np.testing.assert_array_equal(*taught)
    assert not same(weights(model), weights(reference))


def test_a_small_rate_stays_near_and_epochs_go_on(reference, screen, quiet):
    model = SemiClip.load_query_data(screen, reference, accelerator="cpu", **NEW)
    start = weights(model)["adapter.0.weight"]
    model.train(1, **quiet, plan_kwargs={"lr": 1e-6, "min_lr": 0})
    # one step from the weights of the reference, and not from a regression on the new keys
    assert 0 < float((weights(model)["adapter.0.weight"] - start).abs().max()) < 1e-4
    epochs = reference.train_params_["epochs"]
    assert model.train_params_["epochs"] == len(model.history["train_loss"]) == epochs + 1
    assert len(reference.history["train_loss"]) == epochs


def test_training_is_gentle_unless_told(references, screen, quiet, caplog, tmp_path):
    def tune(kind, start=None, **kwargs):
        torch.manual_seed(0)
        model = start or SemiClip.load_query_data(screen, references[kind], accelerator="cpu", **NEW)
        model.train(**quiet, **kwargs)
        return model, (model.train_params_["max_epochs"], model.train_params_["lr"])

    assert references["shared"].train_params_["lr"] == 0.01
    with caplog.at_level("INFO", logger="semiclip"):
        model, settings = tune("shared")
    assert settings == (10, pytest.approx(0.001))
    assert "fine-tuning a reference: 10 epochs at the rate 0.001" in caplog.text
    explicit, _ = tune("shared", max_epochs=10, plan_kwargs={"lr": 0.001})
    assert same(weights(model), weights(explicit))
    # also where it is trained once more, and after it was saved; not a tenth of a tenth
    assert tune("shared", model, max_epochs=1)[1] == (1, settings[1])
    model.save(tmp_path / "tuned", save_anndata=True)
    loaded = SemiClip.load(tmp_path / "tuned", accelerator="cpu")
    again = SemiClip.load_query_data(screen, model, accelerator="cpu", **NEW)
    assert loaded.reference_params_ == again.reference_params_ == references["shared"].train_params_
    assert tune("shared", loaded, max_epochs=1)[1] == (1, settings[1])
    assert tune("shared", max_epochs=1, plan_kwargs={"lr": 0.02, "momentum": 0.5})[1] == (1, 0.02)
    assert tune("teacher adapted", max_epochs=1)[1][1] == pytest.approx({"student": 0.01, "teacher": 1e-5})
    assert tune("teacher adapted", max_epochs=1, plan_kwargs={"lr": {"student": 0.5}})[1][1]["student"] == 0.5
    paper = PRESETS["semiclip"]["paper"]
    model, (_, rate) = tune("whole", max_epochs=1, preset="paper")
    assert rate == paper["lr"]
    assert model.train_params_["optimizer"] == paper.get("optimizer", "sgd")


@pytest.mark.parametrize("weight", ["auto", 0.75])
@pytest.mark.parametrize("n_keys", [8, 30])
def test_few_keys_without_controls_keep_width_and_weight(shared_study, quiet, warned, weight, n_keys):
    columns = {**COLUMNS, "control": None}
    sides = {name: side[side.obs["perturbation"] != "control"].copy() for name, side in shared_study.mdata.mod.items()}
    options = {"student_rep": "X_pca", "teacher_rep": "X_image", "pair_on": ["perturbation", "dose"], "rng": 0}
    options |= {**columns, **quiet, "model_kwargs": {"distilled_weight": weight}}
    reference = scl.tl.semiclip(MuData(sides), **options)
    paired = sorted(set(sides["rna"].obs["perturbation"]))[:n_keys]
    few = MuData({name: side[side.obs["perturbation"].isin(paired)].copy() for name, side in sides.items()})
    expected = reference.get_latent_representation(few)
    model = SemiClip.load_query_data(few, reference, accelerator="cpu", **NEW)
    np.testing.assert_array_equal(model.get_latent_representation(), expected)
    warned()
    model.train(2, **quiet, **RATE)
    assert not warned()
    embedded, chosen = model.get_latent_representation(), reference.train_params_["distilled_weight"]
    assert embedded.shape == expected.shape
    assert model.train_params_["distilled_weight"] == chosen
    # the share, as it is measured on the rows of training
    n, rows = model.module.n_output, model.train_indices
    squares = [np.square(part[rows]).sum(axis=1).mean() for part in (embedded[:, :n], embedded[:, n:])]
    assert squares[0] / sum(squares) == pytest.approx(chosen, rel=1e-4)


def test_columns_may_have_other_names(reference, screen, quiet):
    renamed = MuData({name: screen[name].copy() for name in ("rna", "image")})
    for adata in renamed.mod.values():
        adata.obs = adata.obs.rename(columns={"perturbation": "gene", "batch": "plate"})
        adata.obs["gene"] = adata.obs["gene"].astype(str).replace("control", "NT")
    names = {"pair_on": ["gene"], "perturbation_key": "gene", "control": "NT", "batch_key": "plate"}
    models = []
    for data, columns in ((screen, NEW), (renamed, names)):
        torch.manual_seed(0)
        model = SemiClip.load_query_data(data, reference, accelerator="cpu", **columns)
        model.train(2, **quiet, **RATE)
        models.append(model)
    np.testing.assert_array_equal(models[0].get_latent_representation(), models[1].get_latent_representation())
    assert models[1].design.batch_key == "plate"
    assert reference.design.batch_key == "batch"


@pytest.mark.parametrize("kind", ["shared", "beside the student", "classes"])
def test_it_is_saved_and_loaded(references, screen, shared_study, quiet, tmp_path, kind):
    model = SemiClip.load_query_data(screen, references[kind], accelerator="cpu", **NEW)
    model.train(2, **quiet, **RATE)
    model.save(tmp_path / "tuned", save_anndata=True)
    loaded = SemiClip.load(tmp_path / "tuned", accelerator="cpu")
    assert same(weights(loaded), weights(model))
    np.testing.assert_array_equal(loaded.get_latent_representation(), model.get_latent_representation())
    compounds = shared_study.mdata["rna"]
    embedded = [one.get_latent_representation(compounds) for one in (model, loaded)]
    np.testing.assert_array_equal(*embedded)
    assert loaded.train_params_ == model.train_params_
    again = SemiClip.load_query_data(screen, tmp_path / "tuned", accelerator="cpu")  # whose setup names the new columns
    np.testing.assert_array_equal(again.get_latent_representation(), model.get_latent_representation())


def test_the_same_seed_gives_the_same_bits(reference, screen, quiet):
    def tune(seed):
        torch.manual_seed(seed)
        model = SemiClip.load_query_data(screen, reference, accelerator="cpu", **NEW)
        model.train(2, **quiet, **RATE)
        return weights(model)

    assert same(tune(0), tune(0))
    assert not same(tune(0), tune(1))


class Interrupt(Callback):
    """Stops when the second epoch begins."""

    def on_train_epoch_start(self, trainer, pl_module):
        if trainer.current_epoch == 1:
            raise RuntimeError("power cut")


# Lightning remarks that a resumed run writes where the interrupted one did
@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
def test_an_interrupted_training_is_taken_up(reference, screen, quiet, tmp_path):
    def tune(seed, **kwargs):
        torch.manual_seed(seed)
        model = SemiClip.load_query_data(screen, reference, accelerator="cpu", **NEW)
        model.train(3, batch_size=64, **quiet, **RATE, **kwargs)
        return model

    whole = tune(0)
    keep = {"dirpath": tmp_path, "save_last": True}
    with pytest.raises(RuntimeError, match="power cut"):
        tune(0, callbacks=[ModelCheckpoint(**keep), Interrupt()])
    resumed = tune(0, callbacks=[ModelCheckpoint(**keep)], ckpt_path=str(tmp_path / "last.ckpt"))
    assert same(weights(resumed), weights(whole))


def test_strong_pairs(screen, quiet, refuses):
    both = screen["image"].copy()
    rng = np.random.default_rng(0)
    both.obsm["X_student"] = both.obsm["X_image"] @ rng.normal(size=(16, 5)).astype(np.float32)
    setup = {"student_rep": "X_student", "teacher_rep": "X_image", **COLUMNS}
    SemiClip.setup_anndata(both, **setup)
    reference = SemiClip(both, n_hidden=[8])
    reference.train(1, **quiet)
    other = both[::-1].copy()
    model = SemiClip.load_query_data(other, reference, accelerator="cpu")
    np.testing.assert_array_equal(model.get_latent_representation(), reference.get_latent_representation(other))
    with refuses(errors.WrongType, name="the data", got=MuData, needed="an AnnData that holds both"):
        SemiClip.load_query_data(screen, reference)


# ---- what is refused


def change_width(side, rep, width):
    def change(mdata):
        mdata[side].obsm[rep] = mdata[side].obsm[rep][:, :width]
        mdata[side].uns.pop("semiclip", None)
        return mdata

    return change


def change_encoder(mdata):
    scl.pp.encode(mdata["rna"], n_components=8, rng=1)
    return mdata


def drop_images(mdata):
    return MuData({"rna": mdata["rna"]})


def drop_embedding(mdata):
    del mdata["image"].obsm["X_image"]
    return mdata


@pytest.mark.parametrize(
    ("change", "error", "data"),
    [
        (change_width("rna", "X_pca", 5), errors.Mismatch,
         {"what": "the number of dimensions of obsm['X_pca']", "got": 5, "expected": 8}),
        (change_width("image", "X_image", 7), errors.Mismatch,
         {"what": "the number of dimensions of obsm['X_image']", "got": 7, "expected": 16}),
        (change_encoder, errors.Mismatch, {"what": "the encoder that made obsm['X_pca']"}),
        (drop_images, errors.MissingEntry, {"key": "image"}),
        (drop_embedding, errors.MissingEntry, {"key": "X_image", "name": "teacher_rep"}),
    ],
    ids=["student width", "teacher width", "encoder", "no images", "no teacher"],
)  # fmt: skip
def test_other_representations_are_refused(reference, screen, refuses, change, error, data):
    changed = change(screen)
    before = dict(changed.uns)
    with refuses(error, **data):
        SemiClip.load_query_data(changed, reference, **NEW)
    assert dict(changed.uns) == before


def test_an_unknown_accelerator_leaves_no_mark(reference, screen, refuses):
    before = [dict(data.uns) for data in (screen, *screen.mod.values())]
    with refuses(errors.UnknownChoice, name="accelerator", value="nonsense"):
        SemiClip.load_query_data(screen, reference, accelerator="nonsense", **NEW)
    with pytest.raises(ValueError, match="single device"):  # scvi-tools' own
        SemiClip.load_query_data(screen, reference, accelerator="cpu", device=-1, **NEW)
    assert [dict(data.uns) for data in (screen, *screen.mod.values())] == before


def test_columns_from_the_reference_are_said_to_be_from_it(reference, screen):
    with pytest.raises(errors.MissingColumn) as caught:
        SemiClip.load_query_data(screen, reference, batch_key="plate")
    assert "from the model" not in str(caught.value)
    for adata in screen.mod.values():
        del adata.obs["batch"]
    with pytest.raises(errors.MissingColumn) as caught:
        SemiClip.load_query_data(screen, reference, **NEW)
    assert "batch_key='batch' (from the model)" in str(caught.value)


@pytest.mark.parametrize("arguments", [{"objective": "clip"}, {"recipe": "whole"}, {"n_shared": 3}, {"n_hidden": [5]}])
def test_what_the_reference_decides_is_refused(reference, screen, refuses, arguments):
    with refuses(errors.UnexpectedArgument, taker="load_query_data", names=list(arguments)):
        SemiClip.load_query_data(screen, reference, **NEW, **arguments)


def test_other_references_are_refused(reference, screen, setup, shared_study, refuses, tmp_path):
    mdata = shared_study.mdata.copy()
    SemiClip.setup_mudata(mdata, **setup)
    with refuses(errors.NotFitted, what="the reference model"):
        SemiClip.load_query_data(screen, SemiClip(mdata), **NEW)
    Baseline.setup_mudata(mdata, **setup)
    baseline = Baseline(mdata, method="ridge")
    baseline.train()
    for other in (baseline, None, SemiClip):
        with refuses(errors.WrongType, name="reference_model", got=type(other)):
            SemiClip.load_query_data(screen, other, **NEW)
    baseline.save(tmp_path / "baseline")
    with refuses(errors.Mismatch, what="the class of the model"):
        SemiClip.load_query_data(screen, tmp_path / "baseline", **NEW)
    with refuses(errors.WrongType, name="mdata"):
        SemiClip.load_query_data(screen["rna"], reference, **NEW)


# ---- what it is for


@pytest.mark.slow
def test_few_pairs_recall_more_from_a_reference_than_from_nothing(quiet, warned):
    """12 or 30 of 72 knockouts are paired, and the others are judged, after centring; chance is 0.1.

    Fine-tuning keeps what the reference knows, and adds next to nothing: its recall is 0.01, 0, 0.03 and 0.03 above.
    """
    options = {"student_rep": "X_pca", "teacher_rep": "X_image", **COLUMNS, **quiet}
    for seed in range(2):
        study = scl.datasets.simulate(n_compounds=150, n_knockouts=72, n_pathways=18, n_genes=200, rng=seed)
        encoder = scl.pp.encode(study.mdata["rna"], n_components=30, rng=seed)
        scl.pp.encode(study.knockouts["rna"], encoder=encoder)
        screen = study.knockouts
        order = np.random.default_rng(seed).permutation(sorted({*screen["rna"].obs["perturbation"]} - {"control"}))
        reference = scl.tl.semiclip(study.mdata, pair_on=["perturbation", "dose"], rng=seed, **options)
        for n_paired in (12, 30):
            paired = [*order[:n_paired], "control"]
            judged = screen["rna"][~screen["rna"].obs["perturbation"].isin(paired[:-1])].copy()
            few = MuData(
                {name: side[side.obs["perturbation"].isin(paired)].copy() for name, side in screen.mod.items()}
            )
            torch.manual_seed(seed)
            tuned = SemiClip.load_query_data(few, reference, accelerator="cpu", **NEW)
            tuned.train(**quiet)
            models = {"reference": reference, "tuned": tuned}
            assert not warned()
            if n_paired == 12:
                models["nothing"] = scl.tl.semiclip(few, pair_on="perturbation", rng=seed, **options)
                assert any("share no direction" in message for message in warned())  # that 12 perturbations could show
            for name, model in models.items():
                judged.obsm[name] = model.get_latent_representation(judged)
            recall = {"relationships": study.relationships, "method": "center", "n_permutations": 0, **COLUMNS}
            table = scl.tl.recall(judged, use_rep=list(models), **recall)
            values = table[table["key"] == "union"].set_index("representation")["value"]
            assert abs(values["tuned"] - values["reference"]) < 0.05, values
            assert values["tuned"] > values.get("nothing", 0) + 0.25, values
