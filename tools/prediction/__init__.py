"""The parts of tools/predict.py: predictions on the screen, in files and as overlays."""
