"""Write pages about runs: the report, the comparison of runs, film strips and plots."""
