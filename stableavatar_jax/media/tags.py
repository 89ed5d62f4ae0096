"""Tags inside a stream of MP3 frames, where files were joined: titles and cover pictures that are no sound."""

import re

TAGGED_FORMATS = ("mp3", "aac", "ac3", "eac3")
"""Formats, by FFmpeg's name, that are frames without a container, so that files can be joined end to end."""
STARTS = re.compile(
    rb"ID3[\x02-\x04][^\xff][\x00-\xf0][\x00-\x7f]{4}|TAG|APETAGEX[\xe8\xd0][\x03\x07]|LYRICSBEGIN", re.DOTALL
)
MP3_FRAME = re.compile(rb"\xff[\xe2-\xff]|\x0b\x77", re.DOTALL)
"""The first bytes of a frame of MPEG audio, AAC (ADTS) or AC-3."""
ID3V1_BYTES = 128
APE_HEADER = 0x20000000
"""Flag of the copy of an APE tag's header that stands before its items."""


def without_inner_tags(content: bytes) -> bytes:
    """The content without ID3, APE and Lyrics3 tags that lie between frames; those at its beginning stay.

    A tag counts where a frame, another tag or the end follows, so that sound which looks like one is kept.
    """
    kept, begin, place = [], 0, _end_of_tags(content, 0)
    while match := STARTS.search(content, place):
        end = _end_of_tags(content, match.start())
        if match.start() < end <= len(content) and (end == len(content) or MP3_FRAME.match(content, end)):
            kept.append(content[begin : match.start()])
            begin = place = end
        else:
            place = match.start() + 1
    return b"".join([*kept, content[begin:]]) if kept else content


def _end_of_tags(content: bytes, place: int) -> int:
    """Where the tags end that begin at a place, with the zeros that follow them; the place itself where none does."""
    while STARTS.match(content, place) and (end := _end_of_tag(content, place)) > place:
        place = end
        while content[place : place + 1] == b"\0":
            place += 1
    return place


def _end_of_tag(content: bytes, place: int) -> int:
    if content.startswith(b"ID3", place):
        size = 0
        for byte in content[place + 6 : place + 10]:
            size = size << 7 | byte
        return place + 10 + size + (10 if content[place + 5] & 0x10 else 0)  # a footer repeats the header
    if content.startswith(b"TAG", place):
        return place + ID3V1_BYTES
    if content.startswith(b"APETAGEX", place):
        size, flags = (int.from_bytes(content[place + at : place + at + 4], "little") for at in (12, 20))
        return place + 32 + (size if flags & APE_HEADER else 0)
    end = content.find(b"LYRICS200", place)
    return place if end < 0 else end + len(b"LYRICS200")
