"""Turn (seed, epoch, position) into views: frame numbers, crop boxes and mirroring, by arithmetic alone."""
