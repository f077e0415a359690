"""Measure the speed of the network on its device; the sections of `benchmarks/shift.py`."""
