"""How fast the network is on its device; `benchmarks/shift.py` asks."""
