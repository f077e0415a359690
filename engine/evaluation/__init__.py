"""Turn the scores of views into exact accuracy, score files and per-class results."""
