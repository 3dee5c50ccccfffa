"""What load says of files that were crafted or damaged to be read wrongly."""

import io
import json
import re
import zipfile

import anndata
import numpy as np
import pandas as pd
import pytest

from semiclip.encoders import MLPEncoder, PCAEncoder, SCVIEncoder
from semiclip.encoders._files import load

GENES = [f"gene{i}" for i in range(15)]
QUIET = {"accelerator": "cpu", "enable_progress_bar": False, "log_every_n_steps": 1}


def make():
    values = np.random.default_rng(0).poisson(4.0, size=(50, 15)).astype(np.float32)
    obs = pd.DataFrame({"plate": np.array(["a", "b"])[np.arange(50) % 2]}, index=[f"cell{i}" for i in range(50)])
    return anndata.AnnData(values, obs=obs, var=pd.DataFrame(index=GENES))


@pytest.fixture(scope="module")
def fitted():
    return {
        "pca": PCAEncoder(n_components=5, rng=3).fit(make()),
        "scvi": SCVIEncoder(n_latent=4, batch_key="plate", max_epochs=1, train_kwargs=QUIET).fit(make()),
        "mlp": MLPEncoder(n_hidden=(8, 6), n_latent=5).fit(make()),
    }


def as_npy(values):
    file = io.BytesIO()
    np.save(file, values)
    return file.getvalue()


def crafted(compression=zipfile.ZIP_STORED, content=None, change=lambda raw: raw):
    """A file with one array, or what calls itself one."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        archive.writestr("mean_.npy", as_npy(np.zeros(15)) if content is None else content)
    return change(file.getvalue())


def with_header(text):
    text = text.encode()
    return np.lib.format.magic(1, 0) + len(text).to_bytes(2, "little") + text


def patched(raw, local, central, value):
    """Write two bytes into both records of the only entry of a zip file."""
    raw = bytearray(raw)
    for place in (local, raw.index(b"PK\x01\x02") + central):
        raw[place : place + 2] = value.to_bytes(2, "little")
    return bytes(raw)


LIE = "{'descr': '<f8', 'fortran_order': False, 'shape': (100000000000000,), }\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            crafted(content=with_header(LIE) + bytes(64)),
            "mean_.npy claims to be float64 of shape (100000000000000,), but holds 64 bytes",
        ),
        (crafted(content=as_npy(np.zeros(15)) + b"more"), "but holds 124 bytes"),
        (crafted(content=with_header("{'descr': ")), ""),
        (crafted(content=with_header("(" * 5000)), ""),
        (crafted(content=with_header(LIE.replace("100000000000000", "-8"))), ""),
        (crafted(content=with_header(LIE.replace("'<f8'", "'|O'"))), "claims to be object"),
        (crafted(content=b"\x93NUMPY\x09\x00" + bytes(64)), ""),
        (crafted(content=b"text"), ""),
        (crafted(change=lambda raw: patched(raw, 8, 10, 99)), "this file is compressed"),
        (crafted(change=lambda raw: patched(raw, 6, 8, 1)), "encrypted"),
        (crafted(zipfile.ZIP_DEFLATED), "save compresses nothing, but this file is compressed"),
        (crafted(zipfile.ZIP_LZMA, change=lambda raw: raw.replace(b"mean_.npy", b"mean_.np\xff")), "compressed"),
        (crafted(change=lambda raw: patched(raw, 24, 26, 0x7FFF)), "it claims to hold more than it does"),
        (crafted(change=lambda raw: raw.replace(bytes(120), bytes(119) + b"1")), "Bad CRC-32"),
    ],
)
def test_refuses_crafted_weights(fitted, content, message, tmp_path):
    fitted["pca"].save(tmp_path / "encoder")
    (tmp_path / "encoder" / "weights.npz").write_bytes(content)
    message = r"weights\.npz is damaged or holds more than plain arrays \(.*" + re.escape(message)
    with pytest.raises(ValueError, match=message):
        load(tmp_path / "encoder")


def test_bytes_that_changed_are_refused_or_do_not_matter(fitted, tmp_path):
    fitted["pca"].save(tmp_path / "encoder")
    path, rng, expected = tmp_path / "encoder" / "weights.npz", np.random.default_rng(0), fitted["pca"].encode(make())
    whole, refused = path.read_bytes(), 0
    for place in rng.integers(len(whole), size=150):
        changed = bytearray(whole)
        changed[place] ^= int(rng.integers(1, 256))
        path.write_bytes(changed)
        try:
            loaded = load(tmp_path / "encoder")
        except ValueError:
            refused += 1
        else:
            np.testing.assert_array_equal(loaded.encode(make()), expected)
    assert refused > 100


@pytest.mark.parametrize("error", [MemoryError, OverflowError, AssertionError, IndexError, NotImplementedError])
def test_whatever_restoring_raises_is_a_clear_error(fitted, error, monkeypatch, tmp_path):
    fitted["pca"].save(tmp_path / "encoder")

    def fail(*_):
        raise error

    monkeypatch.setattr(PCAEncoder, "_restore", fail)
    with pytest.raises(ValueError, match=f"does not hold one whole encoder: {error.__name__}; save the encoder again"):
        load(tmp_path / "encoder")


@pytest.mark.parametrize(
    ("name", "part", "change", "message"),
    [
        ("pca", "arguments", {"layer": ["a"]}, "the argument layer=['a'] is not str | None"),
        ("pca", "arguments", {"normalize": "no"}, "the argument normalize='no' is not bool"),
        ("pca", "arguments", {"normalize": 0}, "the argument normalize=0 is not bool"),
        ("pca", "arguments", {"n_components": True}, "the argument n_components=True is not int"),
        ("pca", "arguments", {"n_components": 5.0}, "the argument n_components=5.0 is not int"),
        ("pca", "arguments", {"min_overlap": None}, "the argument min_overlap=None is not float"),
        ("pca", "arguments", {"rng": "0"}, "the argument rng='0' is not int | np.random.Generator | None"),
        ("mlp", "arguments", {"n_hidden": 8}, "the argument n_hidden=8 is not Sequence[int]"),
        ("scvi", "arguments", {"model_kwargs": [1]}, "the argument model_kwargs=[1] is not dict[str, Any] | None"),
        ("scvi", "arguments", {"batch_key": 3}, "the argument batch_key=3 is not str | None"),
        ("pca", "state", {"n_samples": "x"}, "n_samples='x' is not a number of samples"),
        ("pca", "state", {"n_samples": 0}, "n_samples=0 is not a number of samples"),
        ("scvi", "state", {"batches": ["a", "a"]}, "its batches are not names that differ"),
        ("scvi", "state", {"batches": [0, 1]}, "its batches are not names that differ"),
    ],
)
def test_refuses_values_of_another_type(fitted, name, part, change, message, tmp_path):
    fitted[name].save(tmp_path / "encoder")
    path = tmp_path / "encoder" / "encoder.json"
    settings = json.loads(path.read_text())
    settings[part] |= change
    path.write_text(json.dumps(settings))
    with pytest.raises(ValueError, match=re.escape(f"does not hold one whole encoder: {message}; save the encoder")):
        load(tmp_path / "encoder")


def test_saves_nothing_that_load_would_refuse(tmp_path):
    with pytest.raises(TypeError, match="the argument normalize=1 is not bool"):
        PCAEncoder(n_components=3, normalize=1).fit(make()).save(tmp_path / "encoder")
    assert not list(tmp_path.iterdir())
    PCAEncoder(n_components=3, rng=[1, 2]).fit(make()).save(tmp_path / "encoder")
    assert load(tmp_path / "encoder").rng == 0
