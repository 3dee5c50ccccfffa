compounds = study.mdata["image"]
table = scl.tl.dose(
    compounds, use_rep="X_image", dose_key="dose", method="center", **columns
)
largest = table.groupby("perturbation")["size"].max().nlargest(4)
scl.pl.dose(table, perturbation=list(largest.index))
