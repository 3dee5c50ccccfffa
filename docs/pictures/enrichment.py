reps = ["X_pca64", "X_semiclip"]
sets = scl.tl.relationship_sets(rna, use_rep=reps, **evaluation)
treated = rna.obs[rna.obs["perturbation"] != "control"]
genes = treated.groupby("pathway", observed=True)["perturbation"].unique()
table = scl.tl.enrich(
    sets,
    inside="X_semiclip",
    outside="X_pca64",
    gene_sets=genes.map(list).to_dict(),
    background="map",
)
scl.pl.enrichment(table)
