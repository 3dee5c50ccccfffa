table = scl.tl.null_overlap(
    rna,
    use_rep="X_semiclip",
    references={"X_pca64": rna, "X_image": images},
    **evaluation,
    thresholds=[(0.01, 0.99), (0.05, 0.95), (0.1, 0.9), (0.2, 0.8)],
    n_permutations=100,
    rng=0,
    progress_bar=False,
)
scl.pl.null_overlap(table)
