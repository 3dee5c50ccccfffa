from __future__ import annotations

import json

import pytest
import torch


@pytest.fixture
def write_scgpt():
    """Write a folder like those that scGPT publishes, with a small network."""

    def write(folder, weights, vocabulary, settings):
        folder.mkdir(exist_ok=True)
        (folder / "args.json").write_text(json.dumps(settings))
        (folder / "vocab.json").write_text(json.dumps(vocabulary))
        torch.save(weights, folder / "best_model.pt")
        return folder

    return write


@pytest.fixture
def tiny_scgpt(write_scgpt, tmp_path):
    """Write a small network of random weights that knows some genes."""
    from semiclip.encoders import build

    def write(genes, seed=0):
        settings = {"embsize": 8, "nheads": 2, "d_hid": 12, "nlayers": 2, "pad_value": -2}
        sizes = {"n_output": 8, "n_heads": 2, "n_hidden": 12, "n_layers": 2}
        vocabulary = {name: row for row, name in enumerate([*genes, "<pad>", "<cls>", "<eoc>"])}
        torch.manual_seed(seed)
        weights = build({"kind": "scgpt", "n_input": len(vocabulary) - 1, **sizes}).state_dict()
        return write_scgpt(tmp_path / f"scgpt{seed}", weights, vocabulary, settings)

    return write
