"""Formats of lists and annotations, one module each. A new format needs a module and a line here."""

from __future__ import annotations

from dali_pipes.errors import DataError
from dali_pipes.lists.formats import folders, hmdb51, kinetics, path_label, something, tables, ucf101, webdataset
from dali_pipes.lists.formats.annotation import Annotation, Format, nfc_caseless
from dali_pipes.lists.formats.class_names import letters_and_digits
from dali_pipes.lists.formats.source import Source

_KINETICS = {"suffix": ".mp4", "places": kinetics.places, "folder_key": letters_and_digits, "origin": kinetics.origin}
_CASELESS = {"folder_key": nfc_caseless, "name_key": nfc_caseless}

FORMATS = {  # in the order in which they are tried
    "hmdb51": Format(hmdb51.recognises, hmdb51.read, of_folder=True, places=hmdb51.places, origin=hmdb51.origin),
    "webdataset": Format(webdataset.recognises, webdataset.read, of_folder=True),
    "folders": Format(lambda source: True, folders.read, of_folder=True),
    "jsonl": Format(tables.is_jsonl, tables.read_jsonl),
    "json": Format(tables.is_json, tables.read_json),
    "something_v2": Format(something.is_json, something.read_json, suffix=".webm"),
    "kinetics_json": Format(kinetics.is_json, kinetics.read_json, **_KINETICS),
    "kinetics": Format(kinetics.is_table, kinetics.read_table, **_KINETICS),
    "table": Format(tables.is_csv, tables.read_csv),
    "jester": Format(lambda source: something.is_csv(source) and "jester" in source.path.lower(), something.read_csv),
    "something_v1": Format(something.is_csv, something.read_csv),
    "ucf101": Format(ucf101.recognises, ucf101.read, places=ucf101.places, origin=ucf101.origin, **_CASELESS),
    "path_frames_label": Format(path_label.has_frames, path_label.read_with_frames),
    "path_label": Format(lambda source: True, path_label.read),
}


def read(source: Source, format_name: str) -> tuple[str, Annotation]:
    """Return the name of a source's format, and its annotation. If the format was guessed, errors say so."""
    name = _format_of(source, format_name)
    try:
        return name, FORMATS[name].read(source)
    except DataError as error:
        if name in (format_name, "path_label", "folders"):  # the last is the only one of folders
            raise
        raise DataError(
            error.path, f"{error.reason}\n(read as {name}; if it is something else, set data.format)"
        ) from error


def _format_of(source: Source, name: str) -> str:
    """Return the name of a source's format: the given one, or for `auto` the first that recognises it.

    Raises DataError if the format is for files and the source is a folder, or vice versa.
    """
    possible = [name for name, format in FORMATS.items() if format.of_folder == (source.text is None)]
    if name == "auto":
        return next(name for name in possible if FORMATS[name].recognises(source))
    if name not in possible:
        kinds = ("files", "a folder") if source.text is None else ("folders", "a file")
        raise DataError(source.path, f"data.format={name} is for {kinds[0]}, and this is {kinds[1]}; use auto")
    return name
