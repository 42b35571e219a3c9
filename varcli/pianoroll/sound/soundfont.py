"""SoundFonts: which sounds a file has, and one with compressed samples (SF3) as one with plain ones (SF2).

The format: https://www.synthfont.com/sfspec24.pdf; SF3 holds each sample as Ogg Vorbis, its header the bytes of its
stream, and places of loops counted from the sample's start.
"""

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from varcli.errors import UsageError, VarError

PIANO = Path(__file__).parents[2] / "sounds" / "piano.sf3"
"""The grand piano that comes along."""

_HEADER = struct.Struct("<20sIIIIIBbHH")  # of a sample: name, start, end, loop, rate, pitch, correction, link, type
_PRESET = struct.Struct("<20sHHHIII")  # name, program, bank, ...
_COMPRESSED, _DRUM_BANK = 0x10, 128
_SILENCE = np.zeros(46, "<i2")  # that the format wants after each sample


@dataclass(frozen=True)
class SoundFont:
    """The bytes of an SF2 file, and whether it has drums."""

    data: bytes
    drums: bool


def read_soundfont(path: Path) -> SoundFont:
    """Read an SF2 or SF3 file; raises UsageError where there is none, VarError for what is none."""
    if not path.is_file():
        raise UsageError(f"--soundfont {path} does not exist", "give an .sf2 or .sf3 file")
    try:
        data = path.read_bytes()
        chunks = {name: body for name, body in _chunks(data)}
        banks = {preset[2] for preset in _PRESET.iter_unpack(chunks[b"phdr"])}
        headers = list(_HEADER.iter_unpack(chunks[b"shdr"]))
        if any(header[9] & _COMPRESSED for header in headers):
            data = _plain(chunks, headers)
        elif any(max(header[1:5]) > len(chunks[b"smpl"]) // 2 for header in headers[:-1]):
            raise KeyError("a sample beyond the end")
    except (KeyError, struct.error, soundfile.LibsndfileError) as error:
        raise VarError(f"{path} is no SoundFont, or is damaged", "give an .sf2 or .sf3 file") from error
    except OSError as error:
        raise VarError(f"{path} cannot be read: {error.strerror}", "give an .sf2 or .sf3 file") from error
    return SoundFont(data, _DRUM_BANK in banks)


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The chunks of a RIFF file, those of its lists among them."""
    if data[:4] != b"RIFF" or data[8:12] != b"sfbk":
        raise KeyError("RIFF")
    at = 12
    while at + 8 <= len(data):
        name, size = struct.unpack_from("<4sI", data, at)
        at += 8
        if name == b"LIST":
            at += 4
            continue
        yield name, data[at : at + size]
        at += size
        # The format fills chunks up to an even size; some SF3 files do not.
        at += size % 2 and data[at : at + 1] == b"\0"


def _plain(chunks: dict[bytes, bytes], headers: list[tuple]) -> bytes:
    """The SF2 file of the chunks of an SF3 file."""
    parts, plain, start = [], [], 0
    for name, first, end, loop, stop, rate, pitch, correction, link, kind in headers:
        if not kind & _COMPRESSED:
            plain.append(_HEADER.pack(name, 0, 0, 0, 0, rate, pitch, correction, link, kind))
            continue
        samples, _ = soundfile.read(io.BytesIO(chunks[b"smpl"][first:end]), dtype="int16")
        places = (start + place for place in (0, len(samples), loop, stop))
        plain.append(_HEADER.pack(name, *places, rate, pitch, correction, link, kind & ~_COMPRESSED))
        parts += [samples.astype("<i2"), _SILENCE]
        start += len(samples) + len(_SILENCE)
    sounds = np.concatenate(parts).tobytes()
    tables = (b"phdr", b"pbag", b"pmod", b"pgen", b"inst", b"ibag", b"imod", b"igen")
    lists = (
        b"INFO" + _chunk(b"ifil", struct.pack("<HH", 2, 1)) + _chunk(b"isng", b"EMU8000\0") + _chunk(b"INAM", b"SF2\0"),
        b"sdta" + _chunk(b"smpl", sounds),
        b"pdta" + b"".join(_chunk(name, chunks[name]) for name in tables) + _chunk(b"shdr", b"".join(plain)),
    )
    return _chunk(b"RIFF", b"sfbk" + b"".join(_chunk(b"LIST", body) for body in lists))


def _chunk(name: bytes, body: bytes) -> bytes:
    return name + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)
