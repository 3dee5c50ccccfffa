# the simulation has no wells: each batch is laid out row by row
n_of_batch = rna.obs.groupby("batch", observed=True).cumcount()
rows, columns_of_plate = divmod(n_of_batch.to_numpy(), 24)
letters = "ABCDEFGHIJKLMNOP"
rna.obs["well"] = [
    f"{letters[row]}{column + 1:02}"
    for row, column in zip(rows, columns_of_plate, strict=True)
]
names = {"perturbation_key": "perturbation", "control": "control"}
scl.pl.plate(rna, use_rep="X_semiclip", batch_key="batch", **names)
