"""Train: optimizer steps, epochs and runs."""
