"""Encoders in files: what comes back, what is never overwritten, and what is refused."""

import json
import os
import pickle
import shutil
from functools import partial

import numpy as np
import pytest
import torch
from safetensors import numpy as safetensors
from scipy import sparse

from semiclip import errors
from semiclip.datasets import simulate
from semiclip.encoders import MLPEncoder, PCAEncoder, load

GENES = [f"gène{i}" for i in range(15)]
QUIET = {"accelerator": "cpu", "enable_progress_bar": False, "log_every_n_steps": 1}
SETTINGS = "encoder.json"


def weights(folder):
    return next(folder.glob("weights-*.safetensors"))


@pytest.fixture(scope="module")
def make(make):
    """Make counts of genes whose names are not ASCII."""
    return partial(make, genes=GENES)


@pytest.fixture(scope="module")
def fitted(new_scvi, make):
    return {
        "pca": PCAEncoder(n_components=5, rng=3).fit(make()),
        "scvi": new_scvi().fit(make()),
        "mlp": MLPEncoder(n_hidden=(8, 6), n_latent=5).fit(make()),
    }


@pytest.fixture(params=["pca", "scvi", "mlp"])
def saved(request, fitted, tmp_path):
    fitted[request.param].save(tmp_path / "encoder")
    return tmp_path / "encoder"


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.filterwarnings("ignore::semiclip.errors.SemiclipWarning")  # of a missing gene
@pytest.mark.parametrize("convert", [np.asarray, sparse.csr_matrix])
@pytest.mark.parametrize("name", ["pca", "scvi", "mlp"])
def test_a_loaded_encoder_embeds_to_a_bit(embed, make, fitted, name, convert, tmp_path):
    encoder, adata = fitted[name], make(1, convert=convert)
    encoder.save(str(tmp_path / "some" / "where"))
    shutil.move(tmp_path / "some" / "where", tmp_path / "moved")
    loaded = load(str(tmp_path / "moved"))
    assert type(loaded) is type(encoder)
    lacking = adata[:, adata.var_names != GENES[7]].copy()
    for data in (adata, lacking):
        np.testing.assert_array_equal(embed(loaded, data), embed(encoder, data))
        np.testing.assert_array_equal(loaded.features(data), encoder.features(data))
    assert loaded.architecture == encoder.architecture
    torch.testing.assert_close(loaded.weights(), encoder.weights(), rtol=0, atol=0)
    loaded.save(tmp_path / "again")
    assert contents(tmp_path / "again") == contents(tmp_path / "moved")
    settings = json.loads((tmp_path / "moved" / SETTINGS).read_text(encoding="utf-8"))
    assert settings["contents"]["genes"] == GENES
    assert contents(tmp_path / "moved").keys() == {SETTINGS, weights(tmp_path / "moved").name}


@pytest.mark.parametrize(
    "encoder",
    [
        PCAEncoder(n_components=np.int64(3), normalize=False, layer="z", rng=7, min_overlap=0.5),
        MLPEncoder(n_hidden=np.array([8]), n_latent=3, batch_norm=False, dropout=0, min_overlap=1),
        MLPEncoder(n_hidden=[8, 9], normalize=False, layer="z"),
    ],
)
def test_arguments_come_back(make, encoder, tmp_path):
    adata = make()
    adata.layers["z"] = adata.X - 3
    encoder.fit(adata).save(tmp_path / "encoder")
    loaded = load(tmp_path / "encoder")
    assert vars(loaded).keys() == vars(encoder).keys()
    for name, value in vars(encoder).items():
        if not name.endswith("_"):
            assert getattr(loaded, name) == value
    np.testing.assert_array_equal(loaded.fit(adata).features(adata), encoder.features(adata))


def test_what_json_cannot_hold_of_training_is_left_out(new_scvi, make, tmp_path):
    for i, rng in enumerate((np.random.default_rng(4), [1, 2])):
        PCAEncoder(n_components=3, rng=rng).fit(make()).save(tmp_path / f"pca{i}")
        assert load(tmp_path / f"pca{i}").rng is None
    trained = new_scvi().fit(make())
    trained.train_kwargs = QUIET | {"callbacks": [object()]}
    trained.save(tmp_path / "scvi")
    loaded = load(tmp_path / "scvi")
    assert loaded.train_kwargs == {}
    assert (loaded.n_latent, loaded.batch_key, loaded.max_epochs, loaded.rng) == (4, "plate", 1, 0)


# the solver for many dense genes leaves gaps in memory, the one for sparse values goes backwards
@pytest.mark.parametrize(("n_genes", "convert"), [(600, np.asarray), (300, sparse.csr_matrix)])
def test_components_that_lie_in_memory_as_no_file_can_keep_are_saved_to_a_bit(n_genes, convert, tmp_path):
    adata = simulate(n_compounds=20, n_knockouts=20, n_pathways=5, n_genes=n_genes, rng=0).mdata["rna"]
    adata.X = convert(adata.X)
    encoder = PCAEncoder().fit(adata)
    encoder.save(tmp_path / "encoder")
    np.testing.assert_array_equal(load(tmp_path / "encoder").encode(adata), encoder.encode(adata))


@pytest.mark.parametrize(
    "options",
    [
        {"n_layers": 2, "n_hidden": 8, "dispersion": "gene-batch", "gene_likelihood": "nb", "use_layer_norm": "both"},
        {"batch_representation": "embedding", "batch_embedding_kwargs": {"embedding_dim": 3}},
        {"use_observed_lib_size": False, "encode_covariates": True, "log_variational": False},
        {"latent_distribution": "ln", "dispersion": "gene-cell", "gene_likelihood": "poisson"},
    ],
)
def test_a_loaded_scvi_denoises_to_a_bit_and_draws_nothing(new_scvi, make, options, tmp_path):
    trained, adata = new_scvi(model_kwargs=options).fit(make()), make(1)
    trained.save(tmp_path / "encoder")
    state = torch.get_rng_state()
    loaded = load(tmp_path / "encoder")
    np.testing.assert_array_equal(loaded.encode(adata), trained.encode(adata))
    for mode in ("mean", "ppc"):
        np.testing.assert_array_equal(loaded.denoise(adata, mode=mode, rng=2), trained.denoise(adata, mode=mode, rng=2))
    assert torch.equal(torch.get_rng_state(), state)
    assert loaded.model_kwargs == options
    np.testing.assert_array_equal(new_scvi(model_kwargs=options).fit(make()).encode(adata), loaded.encode(adata))


def test_an_existing_folder_is_kept_unless_told_otherwise(make, saved, refuses):
    before, other = contents(saved), PCAEncoder(n_components=2).fit(make())
    with refuses(errors.FileExists, path=saved):
        other.save(saved)
    assert contents(saved) == before
    other.save(saved, overwrite=True)
    np.testing.assert_array_equal(load(saved).encode(make()), other.encode(make()))
    assert [path.name for path in saved.parent.iterdir()] == ["encoder"]


def test_nothing_but_an_encoder_is_ever_replaced(fitted, refuses, tmp_path):
    (tmp_path / "empty").mkdir()
    fitted["pca"].save(tmp_path / "empty", overwrite=True)
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "thesis.txt").write_text("years")
    fitted["pca"].save(tmp_path / "own")
    (tmp_path / "own" / "notes.txt").write_text("mine")
    (tmp_path / "file").write_text("text")
    fitted["pca"].save(tmp_path / "own", overwrite=True)
    for name in ("work", "file"):
        with refuses(errors.FileExists, path=tmp_path / name):
            fitted["pca"].save(tmp_path / name, overwrite=True)
    assert (tmp_path / "work" / "thesis.txt").read_text() == "years"
    assert (tmp_path / "own" / "notes.txt").read_text() == "mine"
    assert {path.name for path in tmp_path.iterdir()} == {"empty", "work", "own", "file"}


@pytest.mark.parametrize("exists", [True, False])
@pytest.mark.parametrize("step", ["safetensors.torch.save", "pathlib.Path.replace", "os.fsync"])
def test_a_save_that_fails_leaves_the_folder_as_it_was(fitted, tmp_path, monkeypatch, step, exists):
    if exists:
        fitted["pca"].save(tmp_path / "encoder")

    def fail(*_, **__):
        raise OSError

    monkeypatch.setattr(step, fail)
    with pytest.raises(OSError):
        fitted["scvi"].save(tmp_path / "encoder", overwrite=True)
    assert [*tmp_path.rglob("*.json")] == [tmp_path / "encoder" / SETTINGS] * exists
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 2 * exists
    assert not exists or isinstance(load(tmp_path / "encoder"), PCAEncoder)


SILU = {"extra_encoder_kwargs": {"activation_fn": torch.nn.SiLU}}


class Mine(PCAEncoder):
    pass


@pytest.mark.parametrize(
    ("encoder", "data"),
    [
        (lambda _: Mine(n_components=3), {"got": Mine}),
        (lambda _: PCAEncoder(n_components=3, normalize=1), {"name": "normalize"}),
        (lambda new_scvi: new_scvi(model_kwargs=SILU), {"name": "model_kwargs"}),
    ],
)
def test_refuses_to_save(new_scvi, make, encoder, data, refuses, tmp_path):
    unsaved = encoder(new_scvi).fit(make())
    with refuses(errors.WrongType, **data):
        unsaved.save(tmp_path / "encoder")
    assert not list(tmp_path.iterdir())


def test_refuses_what_is_missing(saved, refuses):
    for path in (weights(saved), saved / SETTINGS):
        path.unlink()
        with refuses(errors.MissingFile, path=path):
            load(saved)
    with refuses(errors.MissingFile, path=saved / "nowhere" / SETTINGS):
        load(saved / "nowhere")


def test_a_folder_of_the_older_format_is_refused_and_may_be_replaced(saved, fitted, refuses):
    (saved / SETTINGS).write_text('{"format": 2, "class": "PCAEncoder"}')
    weights(saved).rename(saved / "weights.safetensors")
    with refuses(errors.DamagedFile, path=saved / SETTINGS):
        load(saved)
    fitted["pca"].save(saved, overwrite=True)
    assert isinstance(load(saved), PCAEncoder)
    assert not (saved / "weights.safetensors").exists()


class Evil:
    """Makes a folder as soon as it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("write", [lambda path, evil: torch.save({"w": evil}, path), None])
def test_a_pickle_in_place_of_the_weights_does_not_run(saved, write, craft, refuses):
    sign, path = saved.parent / "it_ran", weights(saved)
    (write or (lambda path, evil: path.write_bytes(pickle.dumps(evil))))(path, Evil(sign))
    craft(saved, "encoder")
    with refuses(errors.DamagedFile, path=path):
        load(saved)
    assert not sign.exists()
    if write is None:  # the trap works
        pickle.loads(path.read_bytes())
        assert sign.exists()


def header(text, data=b""):
    return len(text).to_bytes(8, "little") + text.encode() + data


LIE = '{"mean_":{"dtype":"F64","shape":[100000000000000],"data_offsets":[0,800000000000000]}}'


@pytest.mark.parametrize(
    "content",
    [
        *(lambda whole, part=part: whole[: int(part * len(whole))] for part in (0, 0.01, 0.5, 0.99)),
        lambda whole: whole + b"more",
        lambda _: header(LIE, bytes(64)),
        lambda _: header(LIE.replace("800000000000000", "64"), bytes(64)),
        lambda _: header(LIE.replace("F64", "O")),
        lambda _: header("[" * 100_000),
    ],
)
def test_refuses_weights_that_are_cut_or_crafted(saved, content, craft, refuses):
    path = weights(saved)
    path.write_bytes(content(path.read_bytes()))
    craft(saved, "encoder")
    with refuses(errors.DamagedFile, path=path):
        load(saved)


def test_bytes_that_changed_are_refused(fitted, tmp_path):
    fitted["pca"].save(tmp_path / "encoder")
    path, rng = weights(tmp_path / "encoder"), np.random.default_rng(0)
    whole = path.read_bytes()
    for place in [*range(8), *rng.integers(len(whole), size=150)]:
        changed = bytearray(whole)
        changed[place] ^= int(rng.integers(1, 256))
        path.write_bytes(changed)
        with pytest.raises(errors.DamagedFile):
            load(tmp_path / "encoder")


@pytest.mark.parametrize(
    ("name", "key"),
    [("pca", "components_"), ("pca", "share_"), ("scvi", "px_r"), ("scvi", "z_encoder.mean_encoder.bias")],
)
def test_refuses_weights_of_another_shape_type_or_name(fitted, name, key, craft, refuses, tmp_path):
    fitted[name].save(tmp_path / "encoder")
    path, key = weights(tmp_path / "encoder"), f"arrays.{key}"
    arrays = safetensors.load(path.read_bytes())
    rest = {name: array for name, array in arrays.items() if name != key}
    wider = np.ones((*arrays[key].shape[:-1], arrays[key].shape[-1] + 1))
    for content in (rest | {key: wider}, rest | {key: arrays[key] > 0}, rest):
        path.write_bytes(safetensors.save(content))
        craft(tmp_path / "encoder", "encoder")
        with refuses(errors.DamagedFile):
            load(tmp_path / "encoder")


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", "null", '{"format": 2}', '{"format": 2, "class": "PCAEncoder"}', "[" * 100_000]
)
def test_refuses_settings_that_are_cut_or_no_json(saved, text):
    (saved / SETTINGS).write_text(text)
    with pytest.raises(errors.DamagedFile):
        load(saved)


@pytest.mark.parametrize(
    ("name", "part", "settings"),
    [
        ("mlp", None, {"class": "Path"}),
        ("mlp", None, {"genes": [*GENES[:-1], GENES[0]]}),
        ("mlp", None, {"genes": [1, 2]}),
        ("mlp", None, {"fingerprint": "0" * 16}),
        ("mlp", "arrays", {"more": {"__type__": "array", "value": "more"}}),
        ("mlp", None, {"arguments": {"n_units": 3}}),
        ("mlp", None, {"arguments": None}),
        ("pca", "arguments", {"n_components": 7}),
        ("pca", "arguments", {"layer": ["a"]}),
        ("pca", "arguments", {"n_components": True}),
        ("pca", "arguments", {"min_overlap": None}),
        ("pca", "arguments", {"rng": "0"}),
        ("mlp", "arguments", {"n_hidden": 8}),
        ("scvi", "arguments", {"model_kwargs": [1]}),
        ("pca", "state", {"n_samples": "x"}),
        ("scvi", "state", {"batches": ["a", "a"]}),
        ("scvi", "state", {"batches": ["a"]}),
        ("scvi", "state", {"recipe": {"n_input": 15}}),
        ("scvi", "recipe", {"n_hidden": 10**9}),
        ("scvi", "recipe", {"dispersion": "none"}),
    ],
)
def test_refuses_settings_that_were_changed(fitted, name, part, settings, craft, tmp_path):
    fitted[name].save(tmp_path / "encoder")

    def change(index):
        contents = index["contents"]
        if part == "recipe":
            contents["state"]["recipe"].update(settings)
        else:
            (contents if part is None else contents[part]).update(settings)

    craft(tmp_path / "encoder", "encoder", change)
    with pytest.raises(errors.DamagedFile):
        load(tmp_path / "encoder")
