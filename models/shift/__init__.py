"""Shift channels between the frames of a clip: the operation, its forms, and which one is fastest where."""
