"""A small simulated study with something to find, and a model trained on it."""

import numpy as np

import semiclip as scl

columns = {
    "perturbation_key": "perturbation",
    "control": "control",
    "batch_key": "batch",
}
study = scl.datasets.simulate(n_compounds=200, rng=0)
# samples of the same 150 knockouts: expression, and images of other cells
rna, images = study.knockouts["rna"], study.knockouts["image"]

screen = study.mdata["rna"]
for n in (8, 64):
    encoder = scl.pp.encode(screen, encoder="pca", n_components=n, rng=0)
    scl.pp.encode(rna, encoder=encoder, key_added=f"X_pca{n}")
screen.obsm["X_pca64"] = screen.obsm.pop("X_pca")
model = scl.tl.semiclip(
    study.mdata,
    student_rep="X_pca64",
    teacher_rep="X_image",
    pair_on=["perturbation", "dose"],
    **columns,
    recipe="whole",
    max_epochs=40,
    rng=0,
    enable_progress_bar=False,
)
scl.tl.embed(rna, model)

# knockouts of one pathway are related; here in a large and a small database
relationships = study.relationships
small = np.random.default_rng(0).random(len(relationships)) < 0.2
relationships["database"] = np.where(small, "small", "large")
evaluation = {"relationships": relationships, **columns}
