"""Turn videos into predictions on screen, in files and as overlays: the parts of tools/predict.py."""
