"""Parse the headers of compressed packets: where decoding can start, which pictures are displayed, and in which
order.
"""

from dali_pipes.video.bitstream.parameter_sets import CHROMA, PictureFormat, may_reorder, picture_format
from dali_pipes.video.bitstream.picture import Picture
from dali_pipes.video.bitstream.readers import READERS, make_reader, may_be_rotated
from dali_pipes.video.bitstream.units import as_stored_in_mp4, break_link, length_size, units

__all__ = [
    "CHROMA",
    "READERS",
    "Picture",
    "PictureFormat",
    "as_stored_in_mp4",
    "break_link",
    "length_size",
    "make_reader",
    "may_be_rotated",
    "may_reorder",
    "picture_format",
    "units",
]
