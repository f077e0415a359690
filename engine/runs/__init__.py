"""Keep a run: its folder, checkpoints, environment, and the report made from them."""
