"""Turn lists, annotations and class folders into rows of (path, label)."""
