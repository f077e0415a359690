"""Decoding of cuts: the bytes that the decoder is given."""

import ctypes
from types import SimpleNamespace

import numpy as np
import pytest

from dali_pipes.cut import decode
from dali_pipes.cut.cutter import cut
from dali_pipes.scan.probe import probe
from tests.support.videos import write_video

PADDING = 64  # bytes behind a packet, which FFmpeg's decoders may read (AV_INPUT_BUFFER_PADDING_SIZE)


@pytest.mark.parametrize("codec", ["libx264", "libx265", "libvpx-vp9"])
def test_zeros_follow_each_packet_so_that_damage_decodes_as_in_the_file(tmp_path, codec, monkeypatch):
    video = probe(str(write_video(tmp_path / "a.mp4", codec, 6, gop=3)))
    behind = []

    def record(packet):
        if packet is not None:
            behind.append(ctypes.string_at(packet.buffer_ptr + packet.size, PADDING))
        return []

    decoder = SimpleNamespace(decode=record, flush_buffers=lambda: None)
    monkeypatch.setattr(decode, "_bare_decoder", lambda *_: decoder)
    list(decode.numbered_frames(cut(video, np.arange(6)), video.path))
    assert behind == [bytes(PADDING)] * 6
