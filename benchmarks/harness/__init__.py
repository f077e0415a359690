"""Turn a measurement into a record: repeated timing, made videos, the machine, one JSON line a case."""
