"""Cut a video: make the smallest file from which a decoder gets the wanted frames."""
