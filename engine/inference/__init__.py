"""Predict clips, videos and streams with weights or an exported network."""
