scl.pl.history(model)
