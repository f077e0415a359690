"""Measurements of where videos are stored."""
