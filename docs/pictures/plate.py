# the simulation has no positions: here are some, with an effect of the edge
plate = images[:96].copy()
rows, cols = np.divmod(np.arange(96), 12)
wells = [f"{'ABCDEFGH'[i // 12]}{i % 12 + 1:02}" for i in range(96)]
edge = np.isin(rows, [0, 7]) | np.isin(cols, [0, 11])
cells = np.random.default_rng(0).poisson(np.where(edge, 150, 220))
plate.obs = plate.obs.assign(well=wells, cells=cells)
scl.pl.plate(plate, color="cells")
