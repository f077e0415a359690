"""Turn a checkpoint into a deployable file, and check that it computes the same as the network."""
