"""The stages of training, each measured alone: cut, decode, feed, compute, and all of them together as train.

    cut       videos cut, in the loader's threads: bytes read and remuxed, nothing decoded
    decode    videos cut and decoded, nothing more
    feed      whole batches on the device, left there
    compute   optimizer steps on one batch that is there
    train     optimizer steps on what is fed

What `train` lacks to `compute` is the part of the feed that is not hidden. The clock is training's own.
"""

OF_FILES = ("cut", "decode")  # stages that synthetic clips do not have
STAGES = (*OF_FILES, "feed", "compute", "train")
