table = scl.tl.gene_attribution(
    rna,
    use_rep="X_semiclip",
    encoder=encoder,
    model=model,
    pair=("gene_000", "gene_030"),
    method="center",
    rng=0,
    **columns,
)
scl.pl.gene_attribution(table)
