"""A mistake is one line that names its place, and leaves nothing behind."""

from __future__ import annotations

import pytest

from semiclip.__main__ import main

MISTAKES = {
    "a text in the sweep": ("lr = [0.01, 0.1]", 'lr = ["slow", 0.1]', "sweep.lr"),
    "an empty sweep": ("temperature = [0.1, 0.5]", "temperature = []", "sweep.temperature"),
    "part of a row in the sweep": ("temperature = [0.1, 0.5]", "batch_size = [64.5]", "sweep.batch_size"),
    "an option of the encoder": ("min_overlap = 0.5", "overlap = 0.5", "student.options"),
    "a value of the encoder": ("n_components = 8", 'n_components = "8"', "student.options.n_components"),
    "an option of an encoder of Figure 1": (
        "[methods.siglip]",
        "[encoders.mlp]\nwidth = 3\n[methods.siglip]",
        "encoders.mlp",
    ),
    "an encoder that needs a file": ('"pca frozen"]', '"scgpt frozen"]', "encoders.scgpt"),
    "an option of an augmentation": (
        "[methods.siglip]",
        "[augmentations.mwo]\nn = 3\n[methods.siglip]",
        "augmentations.mwo",
    ),
    "an option of a choice": (
        "[methods.siglip]",
        '[choices."mlp from scratch"]\nepochs = 3\n[methods.siglip]',
        "choices.mlp from scratch",
    ),
    "an argument of the plan": ("{lr = 0.3}", "{rate = 0.3}", "methods.semiclip.plan_kwargs"),
    "a rate that is a text": ("{lr = 0.3}", '{lr = "0.3"}', "methods.semiclip.plan_kwargs.lr"),
    "epochs that are a text": ("max_epochs = 3", 'max_epochs = "3"', "methods.semiclip.max_epochs"),
    "an argument of the model": (
        "plan_kwargs = {lr = 0.3}",
        "model_kwargs = {n_hiden = 3}",
        "methods.semiclip.model_kwargs",
    ),
    "what the command says of preservation": ('device = "cpu"', 'use_rep = "X"', "evaluation.preservation"),
    "a device": ('device = "cpu"', 'device = "abacus"', "evaluation.preservation.device"),
    "a data set of the paper": ('paper = "HUVEC-KO"', 'paper = "HUVEC"', "unseen.knockouts.paper"),
    "images without a file of expression": ("zscores = true", 'image = "study.toml"', "unseen.l1000.image"),
    "z-scores that are counts": (
        'image_rep = "X_image"\npaper',
        'image_rep = "X_image"\nzscores = true\npaper',
        "unseen.knockouts.zscores",
    ),
    "a baseline that is there anyway": ('["vicreg", "semiclip"]', '["unimodal", "semiclip"]', "paper.methods"),
    "an unknown method": ('methods = ["vicreg", "semiclip"]', 'methods = ["vicreg", "semclip"]', "paper.methods"),
    "arguments of a method that is not there": ("[methods.siglip]", "[methods.sigclip]", "methods.sigclip"),
    "an argument that no training takes": ("[methods.siglip]\nmax_epochs", "[methods.siglip]\nepoch", "methods.siglip"),
    "a database spelt wrong": ("permutations = 20", 'databases = ["Corum"]', "evaluation.databases"),
    "a column that is not there": ('batch = "batch"', 'batch = "plate"', "columns.batch"),
    "a column of an unseen set": (
        "zscores = true",
        'zscores = true\nperturbation = "gene"',
        "unseen.l1000.perturbation",
    ),
    "a label of controls": ('control = "control"', 'control = "DMSO"', "columns.control"),
    "a file that is not there": ("zscores = true", 'file = "lincs.h5ad"', "unseen.l1000.file"),
    "an unseen set that the data set lacks": ("[unseen.l1000]", "[unseen.lincs]", "unseen"),
    "two unseen sets of one name": ("[unseen.l1000]", "[unseen.knockouts]", "study.toml"),
    "an embedding of images": (
        '[unseen.l1000]\nimage_rep = "X_image"',
        '[unseen.l1000]\nimage_rep = "X_dino"',
        "unseen.l1000.image_rep",
    ),
    "a key of an unseen set": ("zscores = true", "zscore = true", "unseen.l1000"),
    "a value of the wrong type": ("seeds = 2", 'seeds = "two"', "paper.seeds"),
    "a parameter of the sweep": ("temperature = [0.1, 0.5]", "tau = [0.1, 0.5]", "sweep.tau"),
    "an augmentation": ('augmentations = ["mwo", "scgft"]', 'augmentations = ["mixup"]', "paper.augmentations"),
    "the main unseen set": ("seeds = 2", 'seeds = 2\nmain = "huvec"', "paper.main"),
    "the unseen set of Figure 6": ("seeds = 2", 'seeds = 2\nnull = "lincs"', "paper.null"),
    "an encoder of Figure 1": ('"pca frozen"]', '"pca melted"]', "paper.choices"),
    "gene sets that are not there": ("permutations = 20", 'gene_sets = "c2.gmt"', "evaluation.gene_sets"),
    "an option of preservation": ("[evaluation.preservation]", "[evaluation.preservation]\nepochs = 3", "preservation"),
    "an option of the data set": ("n_pathways = 6", "pathways = 6", "data.options"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_that_names_its_place(mistake, study, capsys, run, text):
    old, new, place_of = MISTAKES[mistake]
    assert old in text
    study.write_text(text.replace(old, new, 1), encoding="utf-8")
    assert run(study) in (1, 2)
    told = capsys.readouterr().err.strip().splitlines()
    assert len(told) == 1
    assert told[0].startswith("error: ")
    assert place_of in told[0]
    assert "study.toml" in told[0]
    assert not study.with_name("results").exists()


def test_what_fails_in_the_first_run_leaves_nothing(study, capsys, run, text):
    study.write_text(text.replace("n_components = 8", "n_components = 800"), encoding="utf-8")
    assert run(study, "--only", "table1") == 2
    assert "study.toml: student.options.n_components: " in capsys.readouterr().err
    assert not study.with_name("results").exists()


def test_the_template_says_that_unseen_data_are_needed(tmp_path, capsys, run):
    path = tmp_path / "study.toml"
    assert main(["init", str(path)]) == 0
    assert run(path) in (1, 2)
    told = "error: study.toml: unseen is not given; add a table [unseen.NAME] for each data set to judge on"
    assert capsys.readouterr().err.splitlines() == [told]


def test_an_unknown_part_is_refused(study, capsys, run):
    assert run(study, "--only", "table4") == 2
    assert "'table4'" in capsys.readouterr().err
