"""Turn cut videos into clips: decoder threads, the DALI graph, and the runners that keep them busy."""
