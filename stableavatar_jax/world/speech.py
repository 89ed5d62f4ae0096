"""Speech with the times of its phonemes, from espeak-ng (the `espeakng-loader` wheel; extra `demo`)."""

import _ctypes
import ctypes
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from stableavatar_jax.errors import Mistake
from stableavatar_jax.shapes import Float

RATE = 22050
"""Samples a second of all of espeak's voices used here."""

# speak_lib.h
_SYNCHRONOUS, _PHONEME_EVENTS, _IPA, _DONT_EXIT = 2, 0x1, 0x2, 0x8000
_UTF8 = 1
_SPEED, _PITCH, _RANGE = 1, 3, 4
_END_OF_LIST, _PHONEME = 0, 7

STOPS = frozenset("pbtdkgɡqcɟʈɖʔʧʤ")
LONGEST_CLOSURE = 0.08
"""Seconds of silence before the burst of a stop that belong to the stop; more is a pause before it."""
SILENT = 2e-4
"""What espeak-ng leaves between sounds is exactly zero, or faint echo below this."""



@dataclass(frozen=True)
class Phoneme:
    """One sound of speech."""

    symbol: str
    """IPA, with stress and length marks as espeak-ng writes them."""
    start: float
    end: float
    """Seconds from the start of the sound. A stop has its closure, which is silent where it is voiceless."""


@dataclass(frozen=True)
class Speech:
    """A sound and what is said in it. Between phonemes there is silence."""

    samples: Float[np.ndarray, "S"]
    """Mono, -1..1."""
    rate: int
    phonemes: tuple[Phoneme, ...]

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return len(self.samples) / self.rate


class _Id(ctypes.Union):
    _fields_ = [("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8)]


class _Event(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_int), ("unique_identifier", ctypes.c_uint), ("text_position", ctypes.c_int),
        ("length", ctypes.c_int), ("milliseconds", ctypes.c_int), ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p), ("id", _Id),
    ]  # fmt: skip


_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


def say(text: str, voice: str, *, speed: int = 175, pitch: int = 50, pitch_range: int = 50) -> Speech:
    """A text spoken, without the silence before and after it. The same arguments give the same samples.

    `voice` is a language and a variant, such as "de+f2"; `speed` is in words a minute (80..450), `pitch` and
    `pitch_range` are 0..100. Raises Mistake without espeak-ng or without such a voice.
    """
    blocks: list[np.ndarray] = []
    marks: list[tuple[int, str]] = []

    @_CALLBACK
    def hear(samples, count, events):  # type: ignore[no-untyped-def]
        if samples and count:
            blocks.append(np.ctypeslib.as_array(samples, (count,)).copy())
        listed = (events[number] for number in itertools.count())
        for event in itertools.takewhile(lambda event: event.type != _END_OF_LIST, listed):
            if event.type == _PHONEME:
                marks.append((event.sample, event.id.string.decode("utf-8", "ignore")))
        return 0

    with _espeak() as library:
        library.espeak_SetSynthCallback(hear)
        if library.espeak_SetVoiceByName(voice.encode()):
            raise Mistake(f"espeak-ng has no voice {voice!r}; voices are LANGUAGE+VARIANT, as in 'de+f2'")
        for parameter, value in ((_SPEED, speed), (_PITCH, pitch), (_RANGE, pitch_range)):
            library.espeak_SetParameter(parameter, value, 0)
        data = text.encode()
        library.espeak_Synth(data, len(data) + 1, 0, 0, 0, _UTF8, None, None)
    if not blocks:
        raise Mistake(f"{voice}: espeak-ng said nothing for {text!r}; write it in the letters of that language")
    return _trimmed(np.concatenate(blocks).astype(np.float32) / 32768, marks)


def _trimmed(samples: Float[np.ndarray, "S"], marks: list[tuple[int, str]]) -> Speech:
    """The sound cut to what is said, with the events (sample, symbol) as phonemes."""
    phonemes = _phonemes(samples, marks)
    if not phonemes:
        raise Mistake("espeak-ng gave a sound without phonemes; its library is another version")
    first, last = round(phonemes[0].start * RATE), round(phonemes[-1].end * RATE)
    shift = first / RATE
    moved = tuple(Phoneme(p.symbol, p.start - shift, p.end - shift) for p in phonemes)
    return Speech(samples[first:last], RATE, moved)


def _phonemes(samples: Float[np.ndarray, "S"], marks: list[tuple[int, str]]) -> list[Phoneme]:
    """Phonemes from events. An event without a symbol is a pause.

    espeak-ng marks a voiceless stop at its burst and leaves the silence of its closure to what was before; here that
    silence is the stop's own.
    """
    found: list[Phoneme] = []
    for (start, symbol), (end, _) in zip(marks, [*marks[1:], (len(samples), "")], strict=True):
        end = min(end, len(samples))
        quiet = _silence_before(samples, start)
        if found and quiet:  # what was before ends where the silence begins
            before = found[-1]
            cut = max(before.start, min(before.end, start / RATE - quiet))
            found[-1] = Phoneme(before.symbol, before.start, cut)
        if symbol and end > start:
            is_stop = symbol.strip("ˈˌ")[:1] in STOPS
            closure = min(quiet, LONGEST_CLOSURE) if is_stop else 0.0
            found.append(Phoneme(symbol, start / RATE - closure, end / RATE))
    return [phoneme for phoneme in found if phoneme.end > phoneme.start]


def _silence_before(samples: Float[np.ndarray, "S"], end: int) -> float:
    """Seconds of digital silence, at most one, that end at a sample."""
    loud = np.flatnonzero(np.abs(samples[max(0, end - RATE) : end]) > SILENT)
    return (min(end, RATE) - 1 - loud[-1] if loud.size else min(end, RATE)) / RATE


@contextmanager
def _espeak() -> Iterator[ctypes.CDLL]:
    """A freshly loaded espeak-ng, 0.4 ms. It keeps oscillators and noise generators from one text to the next, which
    nothing else sets back: with one library a process, samples would depend on all that was said before."""
    try:
        import espeakng_loader
    except ImportError as error:
        raise Mistake("espeak-ng is missing; it comes with the extra `demo`: pip install -e '.[demo]'") from error
    library = ctypes.CDLL(espeakng_loader.get_library_path())
    options = _PHONEME_EVENTS | _IPA | _DONT_EXIT
    if library.espeak_Initialize(_SYNCHRONOUS, 0, espeakng_loader.get_data_path().encode(), options) != RATE:
        raise Mistake(f"{espeakng_loader.get_data_path()}: espeak-ng does not start with it; reinstall the wheel")
    library.espeak_ng_SetRandSeed(ctypes.c_long(1))  # breathy voices have noise, which it seeds with the time of day
    try:
        yield library
    finally:
        library.espeak_Terminate()
        _ctypes.dlclose(library._handle)
