"""Benchmarks of the project and of its alternatives. Each module here is a script."""
