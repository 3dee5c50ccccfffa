"""Loading runs nothing: crafted files are refused, and a damaged file gives an error that names it."""

from __future__ import annotations

import json
import os
import pickle
from functools import partial

import numpy as np
import pytest
import torch

from semiclip import errors
from semiclip.model import Baseline, SemiClip

LOADERS = (
    lambda folder: SemiClip.load(folder, adata=False, accelerator="cpu"),
    lambda folder: Baseline.load(folder, adata=False, accelerator="cpu"),
    SemiClip.load_registry,
    SemiClip.view_setup_args,
)


class Payload:
    """Makes a folder when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def nest(payload, place):
    """Return what scvi-tools keeps in ``model.pt``, with the payload in one place."""
    registry = {"model_name": "SemiClip", "setup_method_name": "setup_mudata", "setup_args": {}}
    saved = {
        "model_state_dict": {},
        "var_names": np.array(["a"]),
        "attr_dict": {"registry_": registry, "init_params_": {"kwargs": {}, "non_kwargs": {}}},
    }
    part = saved
    *path, last = place.split(".")
    for key in path:
        part = part[key]
    part[last] = payload
    return saved


PLACES = ("model_state_dict.x", "var_names", "attr_dict.x_", "attr_dict.registry_", "attr_dict.init_params_", "more")


def craft_pickles(folder):
    """Return folders' files that hold a payload in some place, and what the payload would make."""
    marker = folder / "ran"
    payload, crafted = Payload(marker), {}
    for place in PLACES:
        for new in (True, False):
            path = folder / f"{place}-{new}"
            torch.save(nest(payload, place), path, _use_new_zipfile_serialization=new)
            crafted[path.name] = {"model.pt": path.read_bytes()}
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        raw = pickle.dumps(payload, protocol)
        crafted[f"protocol {protocol}"] = {"model.pt": raw, "model.json": raw, "weights": raw}
    crafted["legacy"] = dict.fromkeys(("model_params.pt", "attr.pkl", "var_names.csv", "encoder.json"), raw)
    np.save(folder / "objects.npy", np.array([payload], dtype=object), allow_pickle=True)
    crafted["npy"] = {"model.json": (folder / "objects.npy").read_bytes()}
    return crafted, marker


def count_payloads(folder, model=None):
    """Return how many loads of crafted files, alone or over those of a saved model, were tried, refused and ran."""
    crafted, marker = craft_pickles(folder)
    tried = refused = ran = 0
    for name, files in crafted.items():
        place = folder / f"folder {name}"
        place.mkdir()
        if model is not None:
            model.save(place, overwrite=True)
        for file, contents in files.items():
            path = next(place.glob("weights-*"), None) if file == "weights" else place / file
            if path is not None and (model is None or file != "model.json"):  # the index stays, to come to the weights
                path.write_bytes(contents)
        for load in LOADERS:
            tried += 1
            try:
                load(place)
            except errors.SemiclipError:
                refused += 1
            if marker.exists():
                ran += 1
                marker.rmdir()
    return tried, refused, ran


def test_no_payload_is_run(models, tmp_path):
    for name, model in (("alone", None), ("beside", models[0])):
        (tmp_path / name).mkdir()
        tried, refused, ran = count_payloads(tmp_path / name, model)
        assert tried >= 4 * 20
        assert ran == 0
        assert refused == tried if model is None else refused < tried
    with pytest.raises(NotImplementedError):
        SemiClip.convert_legacy_save(tmp_path, tmp_path / "converted")


def test_the_trap_works(tmp_path):
    crafted, marker = craft_pickles(tmp_path)
    (tmp_path / "model.pt").write_bytes(crafted["var_names-True"]["model.pt"])
    torch.load(tmp_path / "model.pt", weights_only=False)
    assert marker.exists()


def test_a_pickle_is_refused_with_the_way_out(tmp_path, refuses):
    torch.save({}, tmp_path / "model.pt")
    with refuses(errors.DamagedFile, path=tmp_path / "model.pt"):
        SemiClip.load(tmp_path)


def mutate(contents, rng):
    start, stop = sorted(rng.integers(0, len(contents), 2))
    noise = rng.bytes(rng.integers(1, 9))
    flipped = bytes([contents[start] ^ (1 << int(rng.integers(8)))])
    choices = [contents[:start], contents[:start] + contents[stop + 1 :], contents[:start] + noise + contents[stop:]]
    return [*choices, contents[:start] + flipped + contents[start + 1 :], noise, b""][rng.integers(6)]


def load_or_refuse(load, folder):
    """Say whether a model came back; nothing but an error of the package may come instead."""
    try:
        load(folder)
    except errors.SemiclipError:
        return False
    return True


def test_damaged_files_are_refused(models, tmp_path):
    rng = np.random.default_rng(0)
    for i, model in enumerate((models[0], models[2])):
        folder = tmp_path / str(i)
        model.save(folder)
        load = LOADERS[i]
        for path in folder.iterdir():
            whole = path.read_bytes()
            for _ in range(75):
                path.write_bytes(changed := mutate(whole, rng))
                if load_or_refuse(load, folder):  # one blank for another in the index is no damage
                    assert path.suffix == ".json"
                    assert json.loads(changed) == json.loads(whole)
            path.write_bytes(whole)
        assert load_or_refuse(load, folder)


def places(value, path=()):
    """Yield the path of every part of nested values."""
    yield path
    for key, part in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(part, (*path, key))


def test_crafted_files_with_right_checksums_give_an_error_or_the_model(models, craft, tmp_path):
    """What checksums cannot find: parts of the index, one at a time, are something else."""
    rng = np.random.default_rng(0)
    others = [None, -1, 0.5, "x", [], {}, ["x"], {"__type__": "x", "value": 1}, {"__type__": "tensor", "value": "x"}]

    def exchange(index, place):
        part = index
        *above, last = place
        for key in above:
            part = part[key]
        part[last] = others[rng.integers(len(others))]

    for i, model in enumerate((models[0], models[2])):
        folder = tmp_path / str(i)
        model.save(folder)
        whole = (folder / "model.json").read_bytes()
        all_places = [place for place in places(json.loads(whole)) if place and place[0] != "sha256"]
        for n in rng.choice(len(all_places), 150, replace=False):
            craft(folder, "model", partial(exchange, place=all_places[n]))
            load_or_refuse(LOADERS[i], folder)
            (folder / "model.json").write_bytes(whole)
        # names of files that lead out of the folder
        for file in ("../weights-0123456789ab.safetensors", "/etc/passwd", "weights.safetensors"):
            craft(folder, "model", lambda index, file=file: index.update(files=[file]))
            assert not load_or_refuse(LOADERS[i], folder)
            (folder / "model.json").write_bytes(whole)


def test_depth_is_no_crash(models, tmp_path):
    models[0].save(tmp_path / "model")
    (tmp_path / "model" / "model.json").write_text("[" * 100_000 + "]" * 100_000)
    assert not load_or_refuse(LOADERS[0], tmp_path / "model")
