"""Compute views from (seed, epoch, position): frame numbers, crop boxes and mirroring."""
