"""Measurements: what a machine can do, and what the project does on it. Each is a script of its own."""
