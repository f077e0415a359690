"""Turn checkpoint files of this and other projects into the state dict of a network."""
