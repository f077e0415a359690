"""Turn a checkpoint into a deployable file, and check that it computes what the network computes."""
