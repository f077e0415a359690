"""Generated files, names and trees of files, and the probe that pretends to read them."""
