"""Prepare data sets: the sub-commands of tools/prepare.py and what they share."""
