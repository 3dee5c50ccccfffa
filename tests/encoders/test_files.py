import json
import os
import pickle
import re
import shutil

import anndata
import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse

from semiclip.encoders import MLPEncoder, PCAEncoder, SCVIEncoder, _files
from semiclip.encoders._files import load

GENES = [f"gène{i}" for i in range(15)]
QUIET = {"accelerator": "cpu", "enable_progress_bar": False, "log_every_n_steps": 1}


def make(seed=0, n=50, convert=np.asarray):
    values = np.random.default_rng(seed).poisson(4.0, size=(n, 15)).astype(np.float32)
    obs = pd.DataFrame({"plate": np.array(["a", "b"])[np.arange(n) % 2]}, index=[f"cell{i}" for i in range(n)])
    return anndata.AnnData(convert(values), obs=obs, var=pd.DataFrame(index=GENES))


def scvi_encoder(**options):
    options = {"n_latent": 4, "batch_key": "plate", "max_epochs": 1, "train_kwargs": QUIET} | options
    return SCVIEncoder(**options)


@pytest.fixture(scope="module")
def fitted():
    return {
        "pca": PCAEncoder(n_components=5, rng=3).fit(make()),
        "scvi": scvi_encoder().fit(make()),
        "mlp": MLPEncoder(n_hidden=(8, 6), n_latent=5).fit(make()),
    }


@pytest.fixture(params=["pca", "scvi", "mlp"])
def saved(request, fitted, tmp_path):
    fitted[request.param].save(tmp_path / "encoder")
    return tmp_path / "encoder"


def embed(encoder, adata):
    return encoder.features(adata) if isinstance(encoder, MLPEncoder) else encoder.encode(adata)


@pytest.mark.parametrize("convert", [np.asarray, sparse.csr_matrix])
@pytest.mark.parametrize("name", ["pca", "scvi", "mlp"])
def test_a_loaded_encoder_embeds_to_a_bit(fitted, name, convert, tmp_path):
    fitted[name].save(str(tmp_path / "some" / "where"))
    loaded = load(str(tmp_path / "some" / "where"))
    assert type(loaded) is type(fitted[name])
    adata = make(1, convert=convert)
    np.testing.assert_array_equal(embed(loaded, adata), embed(fitted[name], adata))
    lacking = adata[:, adata.var_names != GENES[7]].copy()
    np.testing.assert_array_equal(embed(loaded, lacking), embed(fitted[name], lacking))
    np.testing.assert_array_equal(loaded.features(adata), fitted[name].features(adata))
    assert loaded.architecture == fitted[name].architecture
    for own, other in zip((loaded.weights() or {}).items(), (fitted[name].weights() or {}).items(), strict=True):
        assert own[0] == other[0]
        assert torch.equal(own[1], other[1])
    loaded.save(tmp_path / "again")
    for path in ("encoder.json", "weights.npz"):
        first, second = (tmp_path / folder / path for folder in ("some/where", "again"))
        assert path.endswith("npz") or first.read_text() == second.read_text()


@pytest.mark.parametrize(
    "encoder",
    [
        PCAEncoder(n_components=np.int64(3), normalize=False, layer="z", rng=7, min_overlap=0.5),
        MLPEncoder(n_hidden=np.array([8]), n_latent=3, batch_norm=False, dropout=0, min_overlap=1),
        MLPEncoder(n_hidden=[8, 9], normalize=False, layer="z"),
    ],
)
def test_arguments_come_back(encoder, tmp_path):
    adata = make()
    adata.layers["z"] = adata.X - 3
    encoder.fit(adata).save(tmp_path / "encoder")
    loaded = load(tmp_path / "encoder")
    assert vars(loaded).keys() == vars(encoder).keys()
    for name, value in vars(encoder).items():
        if not name.endswith("_"):
            assert getattr(loaded, name) == value
    np.testing.assert_array_equal(loaded.fit(adata).features(adata), encoder.features(adata))


def test_what_json_cannot_hold_of_training_is_left_out(tmp_path):
    PCAEncoder(n_components=3, rng=np.random.default_rng(4)).fit(make()).save(tmp_path / "pca")
    assert load(tmp_path / "pca").rng == 0
    trained = scvi_encoder(train_kwargs=QUIET | {"callbacks": []}).fit(make())
    trained.train_kwargs["callbacks"] = [object()]
    trained.save(tmp_path / "scvi")
    loaded = load(tmp_path / "scvi")
    assert loaded.train_kwargs == {}
    assert (loaded.n_latent, loaded.batch_key, loaded.max_epochs, loaded.rng) == (4, "plate", 1, 0)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"n_layers": 2, "n_hidden": 8, "dispersion": "gene-batch", "gene_likelihood": "nb", "use_layer_norm": "both"},
        {"batch_representation": "embedding", "batch_embedding_kwargs": {"embedding_dim": 3}},
        {"use_observed_lib_size": False, "encode_covariates": True, "log_variational": False},
        {"latent_distribution": "ln", "dispersion": "gene-cell", "gene_likelihood": "poisson"},
    ],
)
def test_a_loaded_scvi_denoises_to_a_bit_and_draws_nothing(options, tmp_path):
    trained, adata = scvi_encoder(model_kwargs=options).fit(make()), make(1)
    trained.save(tmp_path / "encoder")
    state = torch.get_rng_state()
    loaded = load(tmp_path / "encoder")
    np.testing.assert_array_equal(loaded.encode(adata), trained.encode(adata))
    for mode in ("mean", "ppc"):
        np.testing.assert_array_equal(loaded.denoise(adata, mode=mode, rng=2), trained.denoise(adata, mode=mode, rng=2))
    assert torch.equal(torch.get_rng_state(), state)
    assert loaded.model_kwargs == options
    np.testing.assert_array_equal(scvi_encoder(model_kwargs=options).fit(make()).encode(adata), loaded.encode(adata))


def test_files_are_names_and_plain_numbers(saved):
    assert sorted(path.name for path in saved.iterdir()) == ["encoder.json", "weights.npz"]
    assert [path.name for path in saved.parent.iterdir()] == ["encoder"]
    settings = json.loads((saved / "encoder.json").read_text(encoding="utf-8"))
    assert settings["format"] == 1
    assert settings["genes"] == GENES
    with np.load(saved / "weights.npz", allow_pickle=False) as arrays:
        assert all(arrays[name].dtype.kind in "fi" for name in arrays.files)


def test_an_existing_folder_is_kept_unless_told_otherwise(saved, fitted):
    before = {path.name: path.read_bytes() for path in saved.iterdir()}
    other = PCAEncoder(n_components=2).fit(make())
    with pytest.raises(FileExistsError, match=r"encoder exists; choose another folder, or pass overwrite=True to"):
        other.save(saved)
    assert {path.name: path.read_bytes() for path in saved.iterdir()} == before
    other.save(saved, overwrite=True)
    np.testing.assert_array_equal(load(saved).encode(make()), other.encode(make()))
    assert [path.name for path in saved.parent.iterdir()] == ["encoder"]


def test_nothing_but_an_encoder_is_ever_replaced(fitted, tmp_path):
    (tmp_path / "empty").mkdir()
    fitted["pca"].save(tmp_path / "empty", overwrite=True)
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "thesis.txt").write_text("years")
    fitted["pca"].save(tmp_path / "own")
    (tmp_path / "own" / "notes.txt").write_text("mine")
    (tmp_path / "file").write_text("text")
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    for name in ("work", "own", "file", "link"):
        with pytest.raises(FileExistsError, match=f"{name} is not a saved encoder alone, so overwrite=True does not"):
            fitted["pca"].save(tmp_path / name, overwrite=True)
    assert (tmp_path / "work" / "thesis.txt").read_text() == "years"
    assert (tmp_path / "own" / "notes.txt").read_text() == "mine"
    assert {path.name for path in tmp_path.iterdir()} == {"empty", "work", "own", "file", "link"}


@pytest.mark.parametrize("there", [True, False])
def test_a_save_that_fails_leaves_what_was_there(fitted, tmp_path, monkeypatch, there):
    if there:
        fitted["pca"].save(tmp_path / "encoder")

    def fail(*_, **__):
        msg = "no space left"
        raise OSError(msg)

    monkeypatch.setattr(_files.np, "savez", fail)
    with pytest.raises(OSError, match="no space left"):
        fitted["scvi"].save(tmp_path / "encoder", overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["encoder"] * there
    if there:
        assert isinstance(load(tmp_path / "encoder"), PCAEncoder)


def test_refuses_to_save(fitted, tmp_path):
    for encoder in (PCAEncoder(), MLPEncoder(), SCVIEncoder()):
        with pytest.raises(RuntimeError, match=r"this encoder is not fitted; call \.fit\(adata\)"):
            encoder.save(tmp_path / "encoder")

    class Mine(PCAEncoder):
        pass

    with pytest.raises(TypeError, match="Mine cannot be saved, since load would not know it"):
        Mine(n_components=3).fit(make()).save(tmp_path / "encoder")
    trained = scvi_encoder(model_kwargs={"extra_encoder_kwargs": {"activation_fn": torch.nn.SiLU}}).fit(make())
    with pytest.raises(TypeError, match="cannot be saved: JSON cannot hold the type in model_kwargs"):
        trained.save(tmp_path / "encoder")
    assert not list(tmp_path.iterdir())


def test_refuses_what_is_missing(saved):
    for name in ("weights.npz", "encoder.json"):
        (saved / name).unlink()
        with pytest.raises(FileNotFoundError, match=f"encoder is not a saved encoder, since it has no {name}; name"):
            load(saved)
    with pytest.raises(FileNotFoundError, match=r"nowhere is not a saved encoder, since it has no encoder\.json"):
        load(saved / "nowhere")


class Evil:
    """Makes a folder as soon as it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def as_torch(path, evil):
    torch.save({"weight": evil}, path)


def as_pickle(path, evil):
    path.write_bytes(pickle.dumps(evil))


def as_objects(path, evil):
    with np.load(path) as stored:
        arrays = {name: stored[name] for name in stored.files}
    first = next(iter(arrays), "weight")
    np.savez(path, **{**arrays, first: np.array([evil], dtype=object)})


def as_array(path, evil):
    with path.open("wb") as file:
        np.save(file, np.array([evil], dtype=object), allow_pickle=True)


@pytest.mark.parametrize("write", [as_pickle, as_torch, as_objects, as_array])
def test_a_pickle_in_place_of_the_weights_does_not_run(saved, write):
    sign = saved.parent / "it_ran"
    write(saved / "weights.npz", Evil(sign))
    with pytest.raises(ValueError, match=r"weights\.npz is damaged or holds more|does not hold one whole encoder"):
        load(saved)
    assert not sign.exists()
    if write is as_pickle:  # the trap works
        pickle.loads((saved / "weights.npz").read_bytes())
        assert sign.exists()


@pytest.mark.parametrize("part", [0, 0.01, 0.5, 0.99])
def test_refuses_truncated_weights(saved, part):
    content = (saved / "weights.npz").read_bytes()
    (saved / "weights.npz").write_bytes(content[: int(part * len(content))])
    with pytest.raises(ValueError, match=r"weights\.npz is damaged or holds more than plain arrays .*save the encoder"):
        load(saved)


def test_refuses_a_plain_array(saved):
    with (saved / "weights.npz").open("wb") as file:
        np.save(file, np.ones(3))
    with pytest.raises(ValueError, match=r"weights\.npz is damaged or holds more than plain arrays"):
        load(saved)


@pytest.mark.parametrize(
    ("name", "key"),
    [("pca", "components_"), ("pca", "share_"), ("scvi", "px_r"), ("scvi", "z_encoder.mean_encoder.bias")],
)
def test_refuses_weights_of_another_shape_kind_or_name(fitted, name, key, tmp_path):
    fitted[name].save(tmp_path / "encoder")
    with np.load(tmp_path / "encoder" / "weights.npz") as stored:
        arrays = {name: stored[name] for name in stored.files}
    shape = arrays[key].shape
    other = (shape[0] + 1, *shape[1:])
    without = {name: value for name, value in arrays.items() if name != key}
    cases = [
        (without | {key: np.ones(other)}, f"{key} in weights.npz has shape {other}, but encoder.json tells of {shape}"),
        (without | {key: np.full(shape, "1")}, f"{key} in weights.npz does not hold numbers"),
        (without, f"weights.npz and encoder.json differ in which weights there are: {key};"),
        (arrays | {"more": np.ones(3)}, "weights.npz and encoder.json differ in which weights there are: more;"),
    ]
    for content, message in cases:
        np.savez(tmp_path / "encoder" / "weights.npz", **content)
        with pytest.raises(ValueError, match="does not hold one whole encoder: " + re.escape(message)):
            load(tmp_path / "encoder")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "has format 2, but this version of semiclip reads 1; update semiclip"),
        (
            {"class": "Path"},
            "is of the class 'Path', but the encoders that can be loaded are ",
        ),
        ({"class": ["PCAEncoder"]}, "is of the class ['PCAEncoder'], but"),
        ({"genes": [*GENES[:-1], GENES[0]]}, "is damaged: its genes are not names that differ"),
        ({"genes": [1, 2]}, "is damaged: its genes are not names that differ"),
        ({"genes": "abc"}, "is damaged: its genes are not names that differ"),
        ({"arguments": {"n_units": 3}}, "does not hold one whole encoder: "),
        ({"arguments": {"n_latent": 7, "n_components": 7}}, "does not hold one whole encoder: "),
        ({"arguments": None}, "does not hold one whole encoder: "),
    ],
)
def test_refuses_settings(saved, change, message):
    path = saved / "encoder.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ValueError, match=re.escape(message)):
        load(saved)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "null", '{"format": 1, "class": "PCAEncoder"}', "[" * 100_000])
def test_refuses_settings_that_are_no_json(saved, text):
    (saved / "encoder.json").write_text(text)
    with pytest.raises(ValueError, match=r"encoder\.json is damaged .*; save the encoder again"):
        load(saved)


@pytest.mark.parametrize(
    "change",
    [
        {"recipe": {"n_input": 15}},
        {"recipe": None},
        {"batches": ["a"]},
        {"recipe+": {"n_hidden": 10**9}},
        {"recipe+": {"dispersion": "none"}},
        {"recipe+": {"os": "system"}},
    ],
)
def test_refuses_a_network_that_is_not_of_the_weights(fitted, change, tmp_path):
    fitted["scvi"].save(tmp_path / "encoder")
    path = tmp_path / "encoder" / "encoder.json"
    settings = json.loads(path.read_text())
    for name, value in change.items():
        if name.endswith("+"):
            settings["state"][name[:-1]] |= value
        else:
            settings["state"][name] = value
    path.write_text(json.dumps(settings))
    with pytest.raises(ValueError, match="does not hold one whole encoder"):
        load(tmp_path / "encoder")


def test_a_saved_encoder_can_be_moved(saved, fitted):
    shutil.move(saved, saved.parent / "elsewhere")
    assert load(saved.parent / "elsewhere").genes_.tolist() == GENES
