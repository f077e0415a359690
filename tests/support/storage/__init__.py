"""Shards and stores of videos for tests."""
