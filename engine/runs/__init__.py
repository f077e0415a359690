"""Keep a run: its folder, checkpoints and environment, and the pages made from them."""
