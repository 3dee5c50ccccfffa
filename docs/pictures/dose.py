screen_images = study.mdata["image"]
table = scl.tl.dose(
    screen_images, use_rep="X_image", dose_key="dose", **columns
)
names = ["compound_001", "compound_002", "compound_003"]
scl.pl.dose(table, perturbation=names)
