"""Scrambled transport streams are refused as encrypted, whatever FFmpeg makes of them."""

import pytest

from dali_pipes.errors import DataError
from dali_pipes.scan.probe import probe
from dali_pipes.storage.opening import open_source
from dali_pipes.video.mpegts import scrambled_pids
from tests.support.files.corpus import Case

VIDEO = 0x100  # the packet identifier that FFmpeg gives


def scramble(content: bytes, pid: int, first: int, size: int = 188) -> bytes:
    """Mark packets of a transport stream as scrambled and change their content, from the packet `first` of `pid` on."""
    packets = [bytearray(content[at : at + 188]) for at in range(0, len(content), 188)]
    of_pid = [packet for packet in packets if (packet[1] & 0x1F) << 8 | packet[2] == pid]
    for packet in of_pid[first:]:
        packet[3] |= 0x80
        packet[40:] = bytes(byte ^ 0x5A for byte in packet[40:])
    return b"".join(bytes(size - 188) + bytes(packet) for packet in packets)


@pytest.mark.parametrize("size", [188, 192])
@pytest.mark.parametrize("first", [0, 8])
@pytest.mark.parametrize("codec", ["h264 no B", "mpeg2"])
def test_a_stream_that_is_scrambled_from_some_packet_on_is_encrypted(tmp_path, codec, first, size):
    path = Case(codec, "ts", "as it is").write(tmp_path)
    path.write_bytes(scramble(path.read_bytes(), VIDEO, first, size))
    with pytest.raises(DataError, match="is encrypted"):
        probe(str(path))


def test_packets_of_another_stream_may_be_scrambled(tmp_path):
    path = Case("h264 no B", "ts", "as it is").write(tmp_path)
    content = path.read_bytes()
    other = bytearray(content[-188:])
    other[1:4] = 0x41, 0x11, 0x90
    path.write_bytes(content + other)
    with open_source(str(path)) as source:
        assert scrambled_pids(source) == {0x111}
    assert probe(str(path)).frames == 24


def test_other_files_have_no_scrambled_packets(tmp_path):
    path = Case("h264 no B", "mp4", "as it is").write(tmp_path)
    with open_source(str(path)) as source:
        assert scrambled_pids(source) == set()
