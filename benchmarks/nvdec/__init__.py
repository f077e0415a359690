"""The questions that `probe_nvdec.py` puts to a machine, one file each."""
