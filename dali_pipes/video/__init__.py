"""Turn the boxes, bits and packets of a file into a packet table: everything that is known of one video."""
