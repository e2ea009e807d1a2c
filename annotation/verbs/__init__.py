"""One file per verb of `annotate`: its flags, and what it does with them."""
