"""Scan the videos of a list into a catalogue: memory-mapped packet tables, and the reason for each unreadable video."""
