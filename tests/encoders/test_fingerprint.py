"""Fingerprints tell encoders apart by what they learned, and by nothing else."""

import hashlib
import json

import numpy as np
import pytest

from semiclip.encoders import MLPEncoder, PCAEncoder, ScGPTEncoder, load


@pytest.fixture
def make(make):
    """Make counts of genes whose names are not ASCII."""
    return lambda seed=0, n_genes=12: make(seed, n=40, genes=[f"gène{i}" for i in range(n_genes)])


@pytest.fixture(params=["pca", "scvi", "mlp", "scgpt"])
def fitted(new_scvi, make, request, tiny_scgpt):
    """An encoder, the same again, and one that embeds in another space."""
    if request.param == "scgpt":
        one, other = (tiny_scgpt(make().var_names, seed) for seed in (0, 1))
        return [ScGPTEncoder(folder, device="cpu").fit(make()) for folder in (one, one, other)]
    return {
        "pca": lambda: [PCAEncoder(n_components=3).fit(make(seed)) for seed in (0, 0, 1)],
        "scvi": lambda: [new_scvi(rng=seed).fit(make()) for seed in (0, 0, 1)],
        "mlp": lambda: [MLPEncoder().fit(make(n_genes=n)) for n in (12, 12, 11)],
    }[request.param]()


def test_is_that_of_what_was_learned_and_survives_a_file(make, fitted, tmp_path):
    one, same, other = fitted
    before = one.fingerprint
    assert len(before) == 16
    assert int(before, 16) >= 0
    assert same.fingerprint == before != other.fingerprint
    if not isinstance(one, MLPEncoder):
        one.encode(make(2))
    one.save(tmp_path / "one")
    again = load(tmp_path / "one")
    assert again.fingerprint == one.fingerprint == before
    again.save(tmp_path / "two")
    assert load(tmp_path / "two").fingerprint == before


def test_is_the_digest_that_is_promised(make):
    """Written out: recorded fingerprints must mean the same to later versions."""
    encoder = PCAEncoder(n_components=2).fit(make())
    model = encoder.model_
    arrays = {"share_": encoder.share_}
    for name in ("components", "mean", "explained_variance", "explained_variance_ratio", "singular_values"):
        arrays[f"{name}_"] = getattr(model, f"{name}_")
    arrays["noise_variance_"] = np.asarray(model.noise_variance_)
    shapes = {name: [array.dtype.str, list(array.shape)] for name, array in arrays.items()}
    genes = [f"gène{i}" for i in range(12)]
    learned = {"arrays": shapes, "class": "PCAEncoder", "genes": genes, "state": {"n_samples": 40}}
    text = json.dumps(learned, sort_keys=True).encode()
    values = b"".join(np.ascontiguousarray(arrays[name]).tobytes() for name in sorted(arrays))
    assert encoder.fingerprint == hashlib.sha256(text + values).hexdigest()[:16]


def test_does_not_depend_on_seeds_devices_and_the_like(make, tiny_scgpt):
    seeds = (0, 7, np.random.default_rng(1), None)  # the full solver draws nothing
    assert len({PCAEncoder(n_components=3, rng=rng).fit(make()).fingerprint for rng in seeds}) == 1
    folder, options = tiny_scgpt(make().var_names), [{}, {"progress_bar": False}, {"batch_size": 3}, {"device": "cpu"}]
    assert len({ScGPTEncoder(folder, **option).fit(make()).fingerprint for option in options}) == 1


def test_order_in_memory_is_nothing_but_a_last_bit_is_enough(make):
    encoder = PCAEncoder(n_components=3).fit(make())
    before, components = encoder.fingerprint, encoder.model_.components_
    encoder.model_.components_ = np.asfortranarray(components)
    assert encoder.fingerprint == before
    encoder.model_.components_ = np.nextafter(components, np.inf)
    assert encoder.fingerprint != before
    encoder.model_.components_ = components.astype(np.float64)
    assert encoder.fingerprint != before
    encoder.model_.components_ = components
    assert encoder.fingerprint == before
    encoder.genes_ = encoder.genes_[::-1]
    assert encoder.fingerprint != before


def test_what_json_cannot_hold_counts_by_its_type(new_scvi, make):
    encoder = new_scvi().fit(make())
    before = encoder.fingerprint
    encoder.recipe_ = {**encoder.recipe_, "prior": object(), ("a", "b"): 1}
    first = encoder.fingerprint
    encoder.recipe_["prior"] = object()  # elsewhere in memory
    assert first == encoder.fingerprint != before
