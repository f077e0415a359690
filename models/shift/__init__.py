"""Shift channels between the frames of a clip: the operation, its implementations, and the choice of the fastest."""
