"""Read the bytes of videos wherever they are: files, members of tar shards, and objects of stores."""
