"""Parse the boxes, headers and packets of a file into the packet table of one video."""
