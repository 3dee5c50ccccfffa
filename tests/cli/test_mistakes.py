"""Each mistake is one line that names the setting."""

from __future__ import annotations

import re

import anndata
import pytest


@pytest.mark.parametrize(
    ("status", "change", "says"),
    [
        (1, ('batch = "batch"', 'batch = "plate"'), "mine.toml: columns.batch: batch_key='plate' is not a column"),
        (1, ('perturbation = "p', 'perturbation = "q'), "columns.perturbation: perturbation_key='qerturbation'"),
        (1, ("study.h5mu", "gone.h5mu"), "gone.h5mu (mine.toml: data.file)"),
        (2, ("study.h5mu", "study.csv"), "mine.toml: data.file="),
        (2, ("batch =", "batc ="), "mine.toml: [columns]: got an unexpected keyword argument 'batc'; did you mean"),
        (2, ("batch =", "seed ="), "it is an argument of [training]"),
        (2, ("[columns]", "[column]"), "mine.toml: got an unexpected keyword argument 'column'; did you mean"),
        (2, ("epochs = 2", 'epochs = "ten"'), "mine.toml: training.epochs is of type str; it must be a whole number"),
        (2, ("epochs = 2", "epochs = 0"), "mine.toml: training.epochs=0 must be a whole number of at least 1"),
        (2, ("epochs = 2", "epochs = true"), "mine.toml: training.epochs is of type bool"),
        (2, ('"whole"', '"hole"'), "mine.toml: training.recipe='hole' is not one of shared, whole, paper"),
        (1, ('control = "control"', 'control = "DMSO"'), "mine.toml: columns.control: control label(s) DMSO match"),
        (2, ('control = "control"\n', ""), "mine.toml: columns.control is not given; set it in"),
        (1, ('rep = "X_image"', 'rep = "X_imag"'), "mine.toml: teacher.rep: teacher_rep='X_imag' is not in obsm"),
        (1, ("[training]", "[training"), "mine.toml cannot be read: "),
        (2, ("seed = 3", "seed = -1"), "mine.toml: training.seed=-1 must be a whole number of at least 0"),
        (2, ("seed = 3", "seed = 1.5"), "mine.toml: training.seed is of type float; it must be a whole number"),
        (2, ('"pca"', '"pac"'), "mine.toml: student.encoder: encoder='pac' is not one of"),
        (2, ("n_components", "n_component"), "mine.toml: student.encoder: encoder='pca': got an unexpected keyword"),
        (2, ("[student]\n", '[student]\nrep = "X_pca"\n'), "student.encoder does not go with"),
        (2, ("accelerator =", "rng = 1 #"), "mine.toml: training.options: 'rng' is a setting of its own"),
        (2, ("n_components = 8", 'encoder = "scvi"'), "mine.toml: student.options: 'encoder' is a setting of its own"),
        (2, ("accelerator =", "acelerator ="), "mine.toml: training.options: training: got an unexpected keyword"),
        (2, ('pair_on = ["perturbation", "dose"]', "pair_on = [1]"), "mine.toml: columns.pair_on is of type list"),
        (2, ('folder = "results"', ""), "mine.toml: output.folder is not given; set it in a TOML file or by --out"),
    ],
)  # fmt: skip
def test_each_mistake_in_the_file_is_one_line_that_names_the_setting(study, fails, status, change, says):
    path = study(change)
    assert says in fails(status, "train", path)
    assert not (path.parent / "results").exists()


COUNT, TEXT, LIST = "it must be a whole number", "it must be a text in quotes", "it must be a list of whole numbers"


@pytest.mark.parametrize(
    ("table", "option", "says"),
    [
        ("student.options", 'n_components = "many"', f" is of type str; {COUNT}"),
        ("student.options", "n_components = 2.5", f" is of type float; {COUNT}"),
        ("student.options", "n_components = [8]", f" is of type list; {COUNT}"),
        ("student.options", 'normalize = "no"', " is of type str; it must be true or false"),
        ("student.options", "layer = 5", f" is of type int; {TEXT}"),
        ("training.model", "n_hidden = 8", f" is of type int; {LIST} or a text in quotes"),
        ("training.model", 'n_hidden = ["a"]', f" is of type list; {LIST} or a text in quotes"),
        ("training.model", "n_hidden = [0]", ": n_hidden=[0] must be 'auto' or a list of widths"),
        ("training.model", 'encoder = "x"', " is of type str; it must be a table"),
        ("training.model", 'temperature = "x"', ": temperature='x' must be a finite number above 0"),
        ("training.plan", "lr = [0.1]", " is of type list; it must be a number or a table"),
        ("training.plan", 'lr = {student = "x"}', ": lr of student='x' must be a finite number at least 0"),
        ("training.plan", 'steps_per_call = "x"', f" is of type str; {COUNT}"),
        ("training.plan", 'schedule = ["cosine"]', f" is of type list; {TEXT}"),
        ("training.options", "views = 5", f" is of type int; {TEXT} or a list of texts"),
        ("training.options", 'early_stopping = "yes"', " is of type str; it must be true or false"),
        ("training.options", 'early_stopping_patience = "x"', f" is of type str; {COUNT}"),
        ("training.options", 'gradient_clip_val = "x"', " is of type str; it must be a number"),
        ("training.options", 'callbacks = ["x"]', " is of type list; it must be left out: a TOML file cannot hold it"),
        ("training.options", "key_added = 5", f" is of type int; {TEXT}"),
        ("training.options", 'devices = "x"', ": `devices` selected with `CPUAccelerator` should be an int > 0."),
        ("training.options", 'strategy = "x"', ": You selected an invalid strategy name"),
        ("training.options", 'max_time = "x"', ": `Timer(duration='x')` is not a valid duration."),
        ("training.pea", 'min_controls = "x"', ": min_controls='x' must be a whole number of at least 2"),
    ],
)  # fmt: skip
def test_each_wrong_option_is_one_line_that_names_it(study, fails, table, option, says):
    places = {"student.options": "n_components = 8", "training.plan": "lr = {student = 0.05}"}
    if table in places:
        change = places[table], option
    elif table == "training.options":
        change = "accelerator =", f"{option}\naccelerator ="
    else:
        change = "[evaluation]", f"[{table}]\n{option}\n[evaluation]"
    path = study(change)
    assert fails(2, "train", path).startswith(f"mine.toml: {table}.{option.split(' = ')[0]}{says}")
    assert [entry.name for entry in path.parent.iterdir()] == ["mine.toml"]


def test_no_default_of_an_option_is_of_a_wrong_type():
    from inspect import signature

    from semiclip._cli import _free_tables as tables

    takers = [*tables.ENCODERS.values(), tables.SemiClip, tables.DistillationPlan, tables.SemiClip.train]
    defaults = {
        (taker.__name__, name): (taker, parameter.default)
        for taker in [*takers, tables.distill, tables.Trainer, tables.LightningTrainer]
        for name, parameter in signature(taker).parameters.items()
        if isinstance(parameter.default, bool | int | float | str | tuple)
    }
    assert len(defaults) > 60
    for (_, name), (taker, default) in defaults.items():
        value = [*default] if isinstance(default, tuple) else default
        assert tables.fits(value, tables.read_kind(taker, name)), (taker, name)


def test_mistakes_elsewhere_are_one_line_too(folder, study, fails, tmp_path):
    path = study()
    (tmp_path / "text.h5ad").write_text("no HDF5", encoding="utf-8")
    image = anndata.read_h5ad(folder / "image.h5ad")
    image.obs["dose"] += 0.5
    image.write_h5ad(tmp_path / "image.h5ad")
    rna, data = ["--rna", folder / "rna.h5ad"], folder / "embedded.h5ad"
    says = fails(1, "train", path, *rna, "--image", tmp_path / "text.h5ad")
    assert re.search(r"text.h5ad \(--image\) cannot be read: .*write_h5ad", says)
    says = fails(1, "train", path, *rna, "--image", tmp_path / "image.h5ad")
    assert says.startswith("mine.toml: columns.pair_on: no key on perturbation, dose is shared")
    assert "--out" in fails(1, "train", path, "--out", folder / "results")
    assert "text.h5ad" in fails(1, "train", path, "--out", tmp_path / "text.h5ad" / "results")  # before it trains
    assert "data.image is not given; set it in a TOML file or by --image" in fails(2, "train", path, *rna)
    assert "'--seed': 'x' is not a valid integer" in fails(2, "train", path, "--seed", "x")
    assert fails(2, "train", path, "--seed", "-1").startswith("--seed=-1 must be")
    assert "'whole'" in fails(2, "train", path, "--recipe", "hole")
    assert "No such option '--sed'" in fails(2, "train", path, "--sed", "1").replace(": --sed", " '--sed'")
    assert "there is no gone.toml; semiclip init" in fails(1, "train", "gone.toml")
    assert "No such command 'trian'" in fails(2, "trian")
    assert "(MODEL)" in fails(1, "embed", tmp_path / "gone", data, "--out", tmp_path / "new.h5ad")
    assert "(DATA)" in fails(1, "embed", folder / "results", "gone.h5ad", "--out", tmp_path / "new.h5ad")
    assert "(--out) exists; pass --overwrite" in fails(1, "embed", folder / "results", data, "--out", data)
    says = fails(1, "embed", folder / "results", data, "--out", tmp_path / "new.h5ad", "--batch", "plate")
    assert says.startswith("--batch: batch_key='plate' is not a column of obs")
    evaluate = ["evaluate", data, "--study", path, "--out", tmp_path / "new.csv"]
    assert fails(1, *evaluate, "--rep", "X_scvi").startswith("--rep: use_rep='X_scvi' is not in obsm")
    assert "(--relationships)" in fails(1, *evaluate, "--relationships", "gone.csv")
    says = fails(1, "evaluate", folder / "knockouts.h5mu", *evaluate[2:], "--modality", "protein")
    assert says.startswith("--modality='protein' is not in the MuData, which has rna, image")
    assert fails(2, *evaluate, "--modality", "rna").startswith("--modality would have no effect on embedded.h5ad")
    assert fails(1, "train", study(("[teacher]", '[teacher]\nmodality = "img"'))).startswith(
        "mine.toml: teacher.modality="
    )
    says = fails(2, "embed", folder / "results", folder / "knockouts.h5mu", "--out", tmp_path / "new.h5ad")
    assert "the result is an .h5mu file too" in says
    report = ["report", data, "--study", path, "--out", tmp_path / "new.html"]
    assert fails(2, *report, "--permutations", "9").startswith("--permutations: n_permutations=9 must be")
    assert "--gene-sets" in fails(1, *report, "--gene-sets", "gone.gmt")
    assert not [*tmp_path.glob("new.*")]
