# encoder and model are those of the study; a pair is explained in the same way
table = scl.tl.gene_attribution(
    rna,
    use_rep="X_semiclip",
    **columns,
    encoder=encoder,
    model=model,
    perturbation="gene_001",
    method="center",
    rng=0,
)
scl.pl.gene_attribution(table, n_top=15)
