"""The stages of training, each measured alone: cut, decode, feed, compute, and all of them together as train.

    cut       cutting of videos in the loader's threads: bytes are read and remuxed, nothing is decoded
    decode    cutting and decoding of videos
    feed      whole batches on the device, without training
    compute   optimizer steps on one batch that stays on the device
    train     optimizer steps on loaded batches

The difference between `train` and `compute` is the loading time that is not hidden. The clock is that of training.
"""

OF_FILES = ("cut", "decode")  # stages that synthetic clips do not have
STAGES = (*OF_FILES, "feed", "compute", "train")
