"""File names that are legal and unusual: blanks, quotes, brackets, composed and decomposed letters, line separators."""

import unicodedata

UNUSUAL_NAMES = [
    "with blanks in it.mp4",
    "tab\tinside.mp4",
    "hash#&(bang)!;.avi",
    'quote\'s and "doubles".mp4',
    "[brackets] {braces}.webm",
    "-leading-dash.mp4",
    unicodedata.normalize("NFC", "näme-ünïcode.mp4"),
    unicodedata.normalize("NFD", "näme-ünïcode.mp4"),
    "手-🎬.mp4",
    "line\u2028separator\x0b\x1c.mp4",
    "x" * 251 + ".mp4",
    "abseiling/_4YTwq0-73Y_000044_000054.mp4",
]
