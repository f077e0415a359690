"""Runs of several ranks in forked processes, faults in them, and hosts that can be cut off."""
