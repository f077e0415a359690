"""Turn promises of docs/reliability.md into figures: loops of kills, stalls, signals and outages, and long runs."""
