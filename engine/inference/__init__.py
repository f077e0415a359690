"""Turn a file of weights or an exported network into predictions for clips, videos and streams."""
