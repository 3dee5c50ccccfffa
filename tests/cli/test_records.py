"""The settings of a result stand beside it."""

from __future__ import annotations

import tomllib
from importlib.metadata import version
from typing import TYPE_CHECKING

import pytest

from semiclip.__main__ import main

if TYPE_CHECKING:
    from pathlib import Path


def read_record(out: Path) -> dict[str, object]:
    """Return what stands beside a result, of the versions only that of this package."""
    record = tomllib.loads(out.with_name(f"{out.name}.settings.toml").read_text(encoding="utf-8"))
    assert record.pop("versions")["semiclip"] == version("semiclip")
    return record


def test_a_result_in_one_file_has_its_settings_beside_it(folder, tmp_path, fails):
    data, study = str(folder / "embedded.h5ad"), str(folder / "study.toml")
    out, again = tmp_path / "recall.csv", tmp_path / "again.csv"
    assert main(["evaluate", data, "--study", study, "--out", str(out), "--seed", "6"]) == 0
    columns = {"pair_on": ["perturbation", "dose"], "perturbation": "perturbation", "control": ["control"]}
    columns |= {"batch": "batch"}
    evaluation = {"rep": ["X_pca", "X_semiclip"], "modality": "rna", "permutations": 100, "seed": 6}
    evaluation |= {"relationships": str(folder / "relationships.csv")}
    expected = {"command": {"name": "evaluate", "data": data}, "columns": columns, "evaluation": evaluation}
    assert read_record(out) == expected
    # which are a study again
    record = f"{out}.settings.toml"
    assert main(["evaluate", data, "--study", record, "--out", str(again)]) == 0
    assert again.read_bytes() == out.read_bytes()

    page = tmp_path / "page.html"
    assert main(["report", data, "--study", record, "--out", str(page), "--permutations", "200"]) == 0
    evaluation["permutations"] = 200
    assert read_record(page) == {**expected, "command": {"name": "report", "data": data}}


def test_embedded_samples_say_how_the_model_was_trained(folder, tmp_path):
    trained = tomllib.loads((folder / "results" / "settings.toml").read_text(encoding="utf-8"))
    del trained["versions"]
    knockouts, out = str(folder / "knockouts.h5ad"), tmp_path / "new.h5ad"
    command = {"name": "embed", "model": str(folder / "results" / "model"), "data": knockouts}
    assert read_record(folder / "embedded.h5ad") == {"command": command, **trained}
    flags = ["--key-added", "X_new", "--batch", ""]
    assert main(["embed", str(folder / "results"), knockouts, "--out", str(out), *flags]) == 0
    assert read_record(out)["command"] == {**command, "key_added": "X_new", "batch_key": ""}


@pytest.mark.parametrize("command", ["embed", "evaluate", "report"])
def test_settings_are_replaced_with_their_result_or_not_at_all(folder, tmp_path, fails, monkeypatch, command):
    suffix = {"embed": ".h5ad", "evaluate": ".csv", "report": ".html"}[command]
    out = tmp_path / f"out{suffix}"
    record = tmp_path / f"out{suffix}.settings.toml"
    arguments = [command, folder / "embedded.h5ad", "--out", out]
    if command == "embed":
        arguments[1:1] = [folder / "results"]
    else:
        arguments += ["--study", folder / "study.toml", "--permutations", "200", "--rep", "X_pca"]
    record.write_text("mine", encoding="utf-8")
    if command != "embed":
        assert main([*map(str, arguments), "--overwrite", "--rep", "X_scvi"]) == 1
    assert record.read_text(encoding="utf-8") == "mine", "a mistake changes nothing"
    assert f"{record} (--out) exists; pass --overwrite" in fails(1, *arguments)
    assert record.read_text(encoding="utf-8") == "mine"
    with monkeypatch.context() as patch:  # a process that dies between them
        patch.delattr("semiclip._cli._work.write_record")
        with pytest.raises(NameError):
            main([*map(str, arguments), "--overwrite"])
    assert [*tmp_path.iterdir()] == [out], "the settings of another result are gone first"
    assert main([*map(str, arguments), "--overwrite"]) == 0
    assert read_record(out)["command"]["name"] == command
    assert "exists; pass --overwrite" in fails(1, *arguments)
    arguments[arguments.index(out)] = folder
    assert fails(1, *arguments, "--overwrite") == f"{folder} (--out) exists; it is a folder: name a file"
