"""Read the bytes of videos in files, members of tar shards, and objects of stores."""
