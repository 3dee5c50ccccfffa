table = scl.tl.preservation(
    rna,
    use_rep=["X_pca64", "X_semiclip"],
    **columns,
    batch_size=64,
    max_epochs=60,
    lr=1e-3,
    rng=0,
    progress_bar=False,
    device="cpu",
)
scl.pl.preservation(table)
