"""Turn a configuration and loaders into optimizer steps, epochs and a finished run."""
