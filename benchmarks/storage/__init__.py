"""Measurements of stores of videos."""
