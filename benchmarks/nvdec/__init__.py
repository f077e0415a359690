"""Measure NVDEC on a machine; one file for each section of `benchmarks/probe_nvdec.py`."""
