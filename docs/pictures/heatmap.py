reps = ["X_pca64", "X_semiclip"]
genes = scl.tl.aggregate(rna, use_rep=reps, method="center", **columns)
treated = rna.obs[rna.obs["perturbation"] != "control"]
first = sorted(treated["pathway"].unique())[:8]
chosen = treated.loc[treated["pathway"].isin(first), "perturbation"].unique()
scl.pl.heatmap(
    genes,
    use_rep=reps,
    perturbation_key="perturbation",
    perturbations=list(chosen),
    relationships=relationships,
)
