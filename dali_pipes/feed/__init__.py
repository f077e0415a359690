"""Turn cut videos into clips: decoding threads, the DALI graph, and the runners that drive them."""
