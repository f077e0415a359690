"""Every file of the generated corpus is identical to a plain decode, or refused with a reason."""

from collections import Counter

import pytest

from tests.support.files.corpus import BOXES, CHANGES, CODECS, Case, cases
from tests.support.plain import compare, plain_decode

SAMPLE = [
    Case("h264", "mp4", "swapped times"),
    Case("h264", "mp4", "an empty packet"),
    Case("h264", "ts", "the same again"),
    Case("h264 4:4:4", "mkv", "of an old x264"),
    Case("h264 interlaced", "ts", "as it is"),
    Case("h264 pyramid", "mp4", "colours after a profile"),
    Case("h264 no B", "mov", "a smaller container"),
    Case("h264 no B", "mkv", "a still first"),
    Case("hevc", "mp4", "an empty packet"),
    Case("hevc", "mp4", "from inside a group"),
    Case("hevc closed", "mkv", "all marked as keyframes"),
    Case("vp8", "webm", "another size"),
    Case("vp9", "ivf", "another size"),
    Case("vp9", "webm", "a picture shown again"),
    Case("vp9", "mp4", "a picture shown again"),
    Case("mpeg4", "avi", "repeated time"),
    Case("mpeg2", "mpg", "without its first packet"),
    Case("mjpeg", "avi", "two packets in one"),
    Case("wmv2", "asf", "an empty packet"),
]
LEAST = 400  # files of the whole corpus


@pytest.mark.parametrize("case", SAMPLE, ids=str)
def test_a_sample_of_the_corpus_is_identical_or_refused(case, tmp_path):
    path = case.write(tmp_path)
    assert compare(str(path), "demux").outcome in ("identical", "refused")


def test_an_encrypted_file_is_refused_as_encrypted(tmp_path):
    path = Case("h264 no B", "mp4", "encrypted").write(tmp_path)
    assert compare(str(path), "demux") == ("refused", "is encrypted")


@pytest.mark.slow
@pytest.mark.parametrize("check", ["demux", "full"])
def test_the_whole_corpus_is_identical_or_refused(check, tmp_path):
    counts, failures, refused_wrongly = Counter(), [], []
    for case in cases():
        path = case.write(tmp_path)
        if path is None or check not in case.checks:
            continue
        found = compare(str(path), check)
        counts[found.outcome] += 1
        if found.outcome not in ("identical", "refused"):
            failures.append(f"{case}: {found}")
        elif found.outcome == "refused" and case.trait != "encrypted" and plain_decode(str(path)).clean:
            refused_wrongly.append(f"{case}: {found.detail}")
        path.unlink()
    print(f"check={check}: {dict(counts)}, of {len(CODECS)} codecs and {len(CHANGES) + len(BOXES) + 2} traits")
    print("\n".join(["refused though a plain decode reports no error:", *refused_wrongly]))
    assert failures == []
    assert sum(counts.values()) >= LEAST
    assert len(refused_wrongly) <= 0.02 * sum(counts.values())
