"""Repeated timing, generated videos, the machine, and one JSON line per case: shared by the benchmarks."""
