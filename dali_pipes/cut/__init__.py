"""Turn a video and frame numbers into the smallest file that a decoder needs for them."""
