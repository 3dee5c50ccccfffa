"""Knockouts of a study with an encoder and a model, whose way from expression to embedding is explained."""

import pytest

import semiclip as scl

SCVI = {"enable_progress_bar": False, "log_every_n_steps": 1, "accelerator": "cpu"}


@pytest.fixture(scope="session")
def columns():
    """What the columns mean."""
    return {"perturbation_key": "perturbation", "control": "control", "batch_key": "batch"}


@pytest.fixture(scope="session")
def center(columns):
    """The same, with a correction that is linear in each row, and without p-values."""
    return {"method": "center", "n_permutations": 0, **columns}


@pytest.fixture(scope="session")
def encode():
    """Encode compounds and knockouts by one encoder."""

    def run(study, encoder="pca", n_components=12):
        options = {"n_components": n_components}
        if encoder == "scvi":
            options = {"n_latent": 6, "batch_key": "batch", "max_epochs": 2, "train_kwargs": SCVI}
        encoder = scl.pp.encode(study.mdata["rna"], encoder=encoder, key_added="X_genes", rng=0, **options)
        scl.pp.encode(study.knockouts["rna"], encoder=encoder, key_added="X_genes")
        return encoder

    return run


@pytest.fixture(scope="session")
def train(columns):
    """Train on the compounds and embed the knockouts."""

    def run(study, recipe, **options):
        options = {"max_epochs": 2, "rng": 0, "enable_progress_bar": False, "accelerator": "cpu", **columns, **options}
        reps = {"student_rep": "X_genes", "teacher_rep": "X_image", "pair_on": ["perturbation", "dose"]}
        model = scl.tl.semiclip(study.mdata, recipe=recipe, **{**reps, **options})
        scl.tl.embed(study.knockouts["rna"], model)
        return model

    return run


@pytest.fixture
def study(shared_study):
    """A study to encode and to train on."""
    return shared_study._replace(mdata=shared_study.mdata.copy(), knockouts=shared_study.knockouts.copy())


@pytest.fixture(scope="session")
def make(shared_study, encode, train):
    """Return the knockouts of a study with an encoder and a model, made once for each recipe."""
    made = {}

    def build(recipe="shared"):
        if recipe not in made:
            study = shared_study._replace(mdata=shared_study.mdata.copy(), knockouts=shared_study.knockouts.copy())
            encoder = encode(study)
            made[recipe] = study.knockouts["rna"], encoder, train(study, recipe)
        return made[recipe]

    return build
