"""Reference implementations and reference data, independent of the code under test."""
