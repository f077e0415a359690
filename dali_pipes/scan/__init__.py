"""Turn the rows of a list into a catalogue: packet tables on disk, memory-mapped, and reasons for every refusal."""
