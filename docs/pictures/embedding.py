reps = ["X_pca64", "X_semiclip"]
genes = scl.tl.aggregate(rna, use_rep=reps, method="center", **columns)
pathway = rna.obs.groupby("perturbation", observed=True)["pathway"].first()
genes.obs["pathway"] = genes.obs["perturbation"].astype(str).map(pathway)
first = sorted(genes.obs["pathway"].unique())[:8]
genes.obs["eight pathways"] = genes.obs["pathway"].where(
    genes.obs["pathway"].isin(first)
)
scl.pl.embedding(genes, use_rep=reps, color="eight pathways")
