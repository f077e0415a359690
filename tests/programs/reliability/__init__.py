"""Measurements for docs/reliability.md: loops of kills, stalls, signals and outages, and long runs."""
