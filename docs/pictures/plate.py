# the simulation has no positions: here are some, with an effect of the edge
plate = images[images.obs["batch"] == images.obs["batch"].iloc[0]][:96].copy()
rows, cols = np.divmod(np.arange(plate.n_obs), 12)
plate.obs["well"] = [f"{'ABCDEFGH'[r]}{c + 1:02}" for r, c in zip(rows, cols)]
edge = np.isin(rows, [0, 7]) | np.isin(cols, [0, 11])
cells = np.random.default_rng(0).poisson(np.where(edge, 150, 220))
plate.obs["cells"] = cells
scl.pl.plate(plate, color="cells")
