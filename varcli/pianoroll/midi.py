"""Standard MIDI files to rolls and back, with an account of what the grid cost.

Onsets meet the grid in ticks, or in beats where an annotation says where these lie; never in rounded seconds.
Pedals are not read: a note lasts as long as its key is down.
"""

import io
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import mido
import numpy as np

from varcli.errors import UsageError, VarError
from varcli.files import write_bytes
from varcli.pianoroll.beats import BeatGrid, TempoMap, signature_bars
from varcli.pianoroll.roll import NoteArrays, Roll, Vocabulary, note_arrays, place

MAX_BYTES = 32 << 20
MAX_STEPS = 1 << 17  # four and a half hours of 16th notes at 120 bpm
_DRUM_CHANNEL = 9
_TICKS_PER_BEAT = 480
_NOT_MIDI_HINT = "give a standard MIDI file (.mid) of format 0 or 1"


@dataclass(frozen=True)
class LossReport:
    """What reading a MIDI file onto the grid cost, in notes and steps.

    notes_read = notes_written + merged + dropped. `merged` notes are no longer notes of their own (one pitch in one
    cell; in a binary roll also repeats without a gap); `cut` ones are shorter because their pitch was struck again;
    `moved` ones began off the grid, by `moved_mean_steps` on average and `moved_max_steps` at most. `off_grid` is the
    mean distance of all onsets from the grid. `dropped` notes had no length; `unended` ones had no end and last as
    long as their track. Drum notes are counted apart: none of them is among the notes read.
    """

    notes_read: int = 0
    notes_written: int = 0
    merged: int = 0
    cut: int = 0
    moved: int = 0
    moved_mean_steps: float = 0.0
    moved_max_steps: float = 0.0
    dropped: int = 0
    unended: int = 0
    drum_notes: int = 0
    off_grid: float = 0.0


@dataclass(frozen=True)
class MidiPiece:
    """A roll read from a file, and what the grid cost."""

    roll: Roll
    loss: LossReport


@dataclass
class _Score:
    """Raw notes of a file: (start tick, end tick, pitch, velocity), with its tempos and time signatures."""

    ticks_per_beat: int
    notes: list[tuple[int, int, int, int]] = field(default_factory=list)
    tempos: dict[int, int] = field(default_factory=dict)
    signatures: list[tuple[int, int, int]] = field(default_factory=list)
    title: str = ""
    unended: int = 0
    drum_notes: int = 0

    @property
    def tempo_map(self) -> TempoMap:
        tempos = {0: 500_000} | self.tempos
        ticks = sorted(tempos)
        return TempoMap(np.array(ticks), np.array([tempos[tick] for tick in ticks]), self.ticks_per_beat)


def read_midi(
    source: Path | bytes,
    *,
    steps_per_beat: int = 4,
    vocabulary: Vocabulary | None = None,
    drums: bool = False,
    beats: BeatGrid | None = None,
    name: str = "",
) -> MidiPiece:
    """Read a MIDI file onto a grid of `steps_per_beat`; all tracks share one canvas, which ends with the last note.

    With `beats` the grid follows that annotation and step 0 is the bar start at or before the first note; else it is
    the file's own tick grid from tick 0 and bars follow its time signatures. The roll's tempo is the mean over the
    piece, each tempo weighted by the time it lasts. `name` says in errors which file it was.
    Raises UsageError if the path is missing; VarError if the content is unreadable, without notes or absurdly long.
    """
    name = name or (str(source) if isinstance(source, Path) else "MIDI data")
    data = source if isinstance(source, bytes) else _read_bytes(source)
    score = _parse(data, name, drums)
    table = np.array(score.notes, np.int64).reshape(-1, 4)
    sounding = table[table[:, 1] > table[:, 0]]
    if not len(sounding):
        left = f" but {score.drum_notes} drum notes, which are left out" if score.drum_notes else ""
        raise VarError(f"{name}: no notes{left}", "keep drums, or give a file with pitched notes" if left else None)
    placing = _on_ticks if beats is None else _on_beats
    grid = placing(score, sounding, steps_per_beat, beats)
    if grid.notes.end.max() > MAX_STEPS:
        raise VarError(f"{name}: {grid.notes.end.max()} steps long, more than {MAX_STEPS}", "split the file")
    steps = int(grid.notes.end.max())
    placed = place(grid.notes, steps, vocabulary or Vocabulary())
    moved = grid.distance > 1e-9
    loss = LossReport(
        notes_read=len(table),
        notes_written=len(sounding) - placed.merged,
        merged=placed.merged,
        cut=placed.cut,
        moved=int(moved.sum()),
        moved_mean_steps=float(grid.distance[moved].mean()) if moved.any() else 0.0,
        moved_max_steps=float(grid.distance.max()),
        dropped=len(table) - len(sounding),
        unended=score.unended,
        drum_notes=score.drum_notes,
        off_grid=float(grid.distance.mean()),
    )
    downbeats = tuple(int(step) for step in np.unique(grid.bars) if 0 <= step < steps)
    roll = Roll(
        cells=placed.cells,
        vocabulary=vocabulary or Vocabulary(),
        steps_per_beat=steps_per_beat,
        steps_per_bar=grid.steps_per_bar,
        tempo_bpm=grid.tempo_bpm,
        title=score.title,
        downbeats=downbeats,
    )
    return MidiPiece(roll, loss)


@dataclass(frozen=True)
class _OnGrid:
    """Notes on steps, how far each onset was from its step, the steps of bar starts and the mean tempo."""

    notes: NoteArrays
    distance: np.ndarray
    bars: np.ndarray
    tempo_bpm: float

    @property
    def steps_per_bar(self) -> int:
        lengths = np.diff(np.unique(self.bars))
        return int(np.bincount(lengths).argmax()) if len(lengths) else 16


def _on_ticks(score: _Score, table: np.ndarray, steps_per_beat: int, beats: BeatGrid | None) -> _OnGrid:
    assert beats is None
    quarter = score.ticks_per_beat
    start, end, pitch, velocity = table.T
    start_step = (2 * start * steps_per_beat + quarter) // (2 * quarter)
    end_step = np.maximum((2 * end * steps_per_beat + quarter) // (2 * quarter), start_step + 1)
    distance = np.abs(start * steps_per_beat - start_step * quarter) / quarter
    last = int(end.max())
    bars = signature_bars(score.signatures, quarter, last + 2 * 4 * quarter)
    bar_steps = np.floor(bars * steps_per_beat / quarter + 0.5).astype(np.int64)
    return _OnGrid(NoteArrays(pitch, start_step, end_step, velocity), distance, bar_steps, score.tempo_map.bpm(last))


def _on_beats(score: _Score, table: np.ndarray, steps_per_beat: int, beats: BeatGrid | None) -> _OnGrid:
    assert beats is not None
    start, end, pitch, velocity = table.T
    tempo = score.tempo_map
    seconds = tempo.seconds(start)
    position = beats.beats_at(seconds) * steps_per_beat
    nearest = np.floor(position + 0.5).astype(np.int64)
    origin = beats.origin(int(nearest.min()) // steps_per_beat)
    end_position = np.floor(beats.beats_at(tempo.seconds(end)) * steps_per_beat + 0.5).astype(np.int64)
    shift = origin * steps_per_beat
    end_step = np.maximum(end_position, nearest + 1) - shift
    bars = beats.bar_starts(origin, origin + int(end_step.max()) // steps_per_beat + 1 + 2 * beats.beats_per_bar)
    span = beats.beats_at(np.array([seconds.min(), seconds.max()]))
    elapsed = float(seconds.max() - seconds.min())
    bpm = 60.0 * float(span[1] - span[0]) / elapsed if elapsed > 0 else 60.0 / float(np.median(np.diff(beats.seconds)))
    notes = NoteArrays(pitch, nearest - shift, end_step, velocity)
    return _OnGrid(notes, np.abs(position - nearest), (bars - origin) * steps_per_beat, bpm)


def _read_bytes(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise VarError(f"{path}: larger than {MAX_BYTES >> 20} MiB", _NOT_MIDI_HINT)
        return path.read_bytes()
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file") from None
    except OSError as error:
        raise VarError(f"{path}: cannot be read ({error.strerror})") from None


def _parse(data: bytes, name: str, drums: bool) -> _Score:
    if len(data) > MAX_BYTES:
        raise VarError(f"{name}: larger than {MAX_BYTES >> 20} MiB", _NOT_MIDI_HINT)
    if not data.startswith(b"MThd"):
        raise VarError(f"{name}: not a MIDI file", _NOT_MIDI_HINT)
    try:
        file = mido.MidiFile(file=io.BytesIO(data))
    except EOFError:
        raise VarError(f"{name}: truncated MIDI file", "copy or export it again") from None
    except Exception as error:  # mido raises whatever its decoders stumble over
        raise VarError(f"{name}: broken MIDI file ({error})", "export it again") from None
    if file.ticks_per_beat <= 0:
        raise VarError(f"{name}: SMPTE time code instead of beats", "export it with ticks per quarter note")
    if file.type == 2:
        raise VarError(f"{name}: MIDI format 2, tracks without a common time", _NOT_MIDI_HINT)
    score = _Score(file.ticks_per_beat)
    for track in file.tracks:
        _read_track(track, score, drums)
    return score


_Strike = tuple[int, int]  # tick and velocity; velocity 0 ends


def _read_track(track: Iterable[mido.Message | mido.MetaMessage], score: _Score, drums: bool) -> None:
    tick = 0
    keys: dict[tuple[int, int], list[_Strike]] = defaultdict(list)
    for message in track:
        tick += message.time
        kind = message.type
        if kind == "note_on":
            keys[message.channel, message.note].append((tick, message.velocity))
        elif kind == "note_off":
            keys[message.channel, message.note].append((tick, 0))
        elif kind == "set_tempo" and message.tempo > 0:
            score.tempos[tick] = message.tempo
        elif kind == "time_signature":
            score.signatures.append((tick, message.numerator, message.denominator))
        elif kind == "track_name" and not score.title:
            score.title = message.name.strip("\0 ")
    for (channel, pitch), strikes in keys.items():
        if channel == _DRUM_CHANNEL and not drums:
            score.drum_notes += sum(1 for _, velocity in strikes if velocity)
            continue
        for start, end, velocity in _pair(strikes):
            score.unended += end is None
            score.notes.append((start, tick if end is None else end, pitch, velocity))


def _pair(strikes: list[_Strike]) -> Iterator[tuple[int, int | None, int]]:
    """(start, end, velocity) of the notes of one key; end None where the file never ends a note.

    A key with as many ends as starts ends the oldest note first, so an overlap keeps both. Otherwise ends are
    missing, and an end stops everything that began before it.
    """
    starts = sum(1 for _, velocity in strikes if velocity)
    one_by_one = 2 * starts == len(strikes)
    sounding: list[_Strike] = []
    for tick, velocity in strikes:
        if velocity:
            sounding.append((tick, velocity))
            continue
        stopped = sounding[:1] if one_by_one else [strike for strike in sounding if strike[0] < tick] or sounding[:1]
        for start, start_velocity in stopped:
            yield start, tick, start_velocity
        sounding = [strike for strike in sounding if strike not in stopped] if not one_by_one else sounding[1:]
    for tick, velocity in sounding:
        yield tick, None, velocity


def write_midi(roll: Roll, path: Path | None, tempo_bpm: float | None = None) -> bytes:
    """The roll as a MIDI file of format 1 with one track of notes, at `tempo_bpm` or the roll's own tempo.

    Written to `path` as well, whole or not at all, unless None. Equal rolls give equal bytes.
    Raises UsageError for a tempo that MIDI cannot hold.
    """
    bpm = roll.tempo_bpm if tempo_bpm is None else tempo_bpm
    if not 3.6 <= bpm <= 60_000:
        raise UsageError(f"a tempo of {bpm:g} bpm does not fit MIDI", "give 3.6 to 60000 beats per minute")
    per_step = max(1, round(_TICKS_PER_BEAT / roll.steps_per_beat))
    file = mido.MidiFile(type=1, ticks_per_beat=per_step * roll.steps_per_beat)
    head: list[tuple[int, mido.MetaMessage]] = [(0, mido.MetaMessage("set_tempo", tempo=round(60e6 / bpm)))]
    if roll.title:
        head.insert(0, (0, mido.MetaMessage("track_name", name=_latin(roll.title))))
    head += [(step * per_step, mido.MetaMessage("time_signature", **fields)) for step, fields in _signatures(roll)]
    events: list[tuple[int, mido.Message | mido.MetaMessage]] = [(0, mido.MetaMessage("track_name", name="Piano"))]
    events.append((0, mido.Message("program_change", program=0)))
    events += [(step * per_step, message) for step, message in _note_events(roll)]
    for track in (head, events):
        file.tracks.append(_track(track, roll.steps * per_step))
    buffer = io.BytesIO()
    file.save(file=buffer)
    if path is not None:
        write_bytes(path, buffer.getvalue())
    return buffer.getvalue()


def _latin(text: str) -> str:
    return text.encode("latin-1", "replace").decode("latin-1")


def _track(events: Iterable[tuple[int, mido.Message | mido.MetaMessage]], end_tick: int) -> mido.MidiTrack:
    track = mido.MidiTrack()
    now = 0
    for tick, message in events:
        track.append(message.copy(time=tick - now))
        now = tick
    track.append(mido.MetaMessage("end_of_track", time=max(0, end_tick - now)))
    return track


def _note_events(roll: Roll) -> list[tuple[int, mido.Message]]:
    notes = note_arrays(roll.cells, roll.vocabulary)
    rows = zip(notes.start.tolist(), notes.end.tolist(), notes.pitch.tolist(), notes.velocity.tolist(), strict=True)
    events = []
    for start, end, pitch, velocity in rows:
        events.append((start, 1, pitch, velocity))
        events.append((end, 0, pitch, 64))
    kinds = ("note_off", "note_on")
    return [(s, mido.Message(kinds[on], note=pitch, velocity=v)) for s, on, pitch, v in sorted(events)]


def _signatures(roll: Roll) -> Iterator[tuple[int, dict[str, int]]]:
    """(step, fields) of the time signatures that put bar starts where the roll has them."""
    bars = sorted({0, *(roll.downbeats or ())})
    lengths = [int(b - a) for a, b in zip(bars, bars[1:], strict=False)] + [roll.steps_per_bar]
    before = None
    for bar, length in zip(bars, lengths, strict=True):
        for denominator in (4, 8, 16, 32, 64):
            numerator, rest = divmod(length * denominator, 4 * roll.steps_per_beat)
            if not rest and length != before and numerator < 256:
                yield bar, {"numerator": numerator, "denominator": denominator}
                break
        before = length
