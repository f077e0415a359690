"""Turn the files of a run into pages: the report, the comparison of runs, film strips and plots."""
