labels = ["control", "compound_003"]
few = screen[screen.obs["perturbation"].isin(labels)].copy()
scl.pp.pea_correct(
    few, use_rep="X_pca64", **columns, stochastic=True, n_views=40, rng=0
)
scl.pl.pea_views(
    few,
    use_rep="X_pca64",
    **columns,
    views="X_pca64_pea",
    perturbation="compound_003",
)
