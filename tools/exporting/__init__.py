"""Export a checkpoint to a deployable file, and check that its logits equal those of the network."""
