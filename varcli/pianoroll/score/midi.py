"""Standard MIDI files to rolls and back, with an account of what the grid cost.

Onsets meet the grid in ticks, or in beats where an annotation says where these lie; never in rounded seconds.
"""

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

import mido
import numpy as np
import pretty_midi

from varcli.errors import UsageError, VarError
from varcli.files import write_bytes
from varcli.pianoroll.roll import NoteArrays, Placed, Roll, Vocabulary, intensity, note_arrays, place, top_line
from varcli.pianoroll.score.beats import BeatGrid, signature_bars
from varcli.pianoroll.score.midi_events import Score, parse_score, read_bytes
from varcli.pianoroll.score.voices import TrackRule

MAX_STEPS = 1 << 17  # four and a half hours of 16th notes at 120 bpm
_TICKS_PER_BEAT = 480
_MIN_BPM, _MAX_BPM = 3.6, 60_000  # MIDI holds 1 to 2**24 - 1 microseconds per beat
_CHARSET = "utf-8"


@dataclass(frozen=True)
class LossReport:
    """What reading a MIDI file onto the grid cost, in notes and steps.

    notes_read = notes_written + merged + dropped. `merged` notes are no longer notes of their own: they share pitch
    and cell with another (most are doublings between tracks), or in a binary roll repeat without a gap. `cut` ones
    are shorter because their pitch was struck again. `moved` ones began off the grid, by `moved_mean_steps` on
    average and `moved_max_steps` at most; `off_grid` is the mean distance of all onsets. `dropped` notes had no
    length; `unended` ones had no end and last as long as their track. Drum notes that were left out are not among
    the notes read.
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
    """A roll read from a file, and what the grid cost.

    If voices were asked for, `tracks` are the names of the tracks with notes of each, and `named` the voices that have
    notes or that the name of a track without notes tells of, other than the first, which has the title. `note` says in
    a line what was decided about voices, if anything was.
    """

    roll: Roll
    loss: LossReport
    tracks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    named: frozenset[str] = frozenset()
    note: str = ""


@dataclass(frozen=True)
class _OnGrid:
    """Notes on steps, how far each onset was from its step, steps of bar starts, the usual bar, the mean tempo, and the
    denominators of time signatures (see `Roll.beat_units`)."""

    notes: NoteArrays
    distance: np.ndarray
    bars: np.ndarray
    steps_per_bar: int
    tempo_bpm: float
    beat_units: Mapping[int, int] = field(default_factory=dict)


def read_midi(
    source: Path | bytes,
    *,
    steps_per_beat: int = 4,
    vocabulary: Vocabulary | None = None,
    drums: bool = False,
    beats: BeatGrid | None = None,
    voices: TrackRule | None = None,
    name: str = "",
) -> MidiPiece:
    """Read a MIDI file onto a grid of `steps_per_beat`; all tracks share one canvas, which ends with the last note.

    With `beats` the grid follows that annotation and step 0 is the bar start at or before the first note; else it is
    the file's own tick grid from tick 0 and bars follow its time signatures. The roll's tempo is the mean over the
    piece, each tempo weighted by the time it lasts. `voices` shares the tracks out over the voices of the roll, whose
    cells are the same with and without. `name` says in errors which file it was.
    Raises UsageError if the path is missing; VarError if the content is unreadable, without notes or absurdly long.
    """
    name = name or (str(source) if isinstance(source, Path) else "MIDI data")
    vocabulary = vocabulary or Vocabulary()
    score, grid, tracks = _read_grid(source, steps_per_beat, drums, beats, name)
    piece = _piece(score, grid, steps_per_beat, vocabulary)
    return piece if voices is None else _in_voices(piece, grid.notes, tracks, score.names[1:], voices)


def _in_voices(piece: MidiPiece, notes: NoteArrays, tracks: list[str], named: list[str], rule: TrackRule) -> MidiPiece:
    """The piece with its voices: `tracks` are the names of the tracks of notes, `named` those of all later tracks."""
    voice_of = {track: rule.voice_of(track) for track in dict.fromkeys(tracks)}
    voices = np.array([voice_of[track] for track in tracks])
    taken = frozenset(rule.names[at] for at in {*voice_of.values(), *map(rule.named_by, named)} if at is not None)
    canvases, members = {}, {}
    for index, voice in enumerate(rule.names):
        own = voices == index
        part = NoteArrays(notes.pitch[own], notes.start[own], notes.end[own], notes.velocity[own])
        canvases[voice] = place(part, piece.roll.steps, piece.roll.vocabulary).cells
        members[voice] = tuple(track for track, at in voice_of.items() if at == index)
    return replace(piece, roll=replace(piece.roll, voices=canvases), tracks=members, named=taken)


def split_top_line(piece: MidiPiece) -> MidiPiece:
    """Share a piece out over voices by pitch, where the names of its tracks tell of one voice alone.

    Such a piece, of piano for instance, leaves all voices but one silent, and a model of several voices would take it
    for music without a melody. Its voices become those of `share_out`, and `note` says so. Any other piece comes back
    as it is: one in several voices, even if all but one are silent, one read without voices, and one read with a rule
    of a single voice.
    """
    voices = tuple(piece.roll.voices or ())
    if len(voices) < 2 or len(piece.named) != 1:
        return piece
    names = ", ".join(name for tracks in piece.tracks.values() for name in tracks if name) or "no name"
    note = f"no tracks for several voices ({names}): the top line is read as {voices[0]}, the rest as {voices[-1]}"
    return replace(piece, roll=share_out(piece.roll, voices), note=note)


def share_out(roll: Roll, voices: Sequence[str]) -> Roll:
    """The roll in voices of these names: its top line (`roll.top_line`) in the first, the rest in the last.

    Of one voice it is all the notes; of none the roll stays as it is.
    """
    if not voices:
        return roll
    line = top_line(roll.cells, roll.vocabulary) if len(voices) > 1 else roll.cells
    canvases = {voice: np.zeros_like(line) for voice in voices}
    canvases[voices[-1]] = np.where(line > 0, 0, roll.cells).astype(np.uint8)
    return replace(roll, voices={**canvases, voices[0]: line})


def _read_grid(
    source: Path | bytes, steps_per_beat: int, drums: bool, beats: BeatGrid | None, name: str
) -> tuple[Score, _OnGrid, list[str]]:
    """A file, its sounding notes on steps, and the name of the track of each."""
    score = parse_score(source if isinstance(source, bytes) else read_bytes(source), name, drums)
    notes = np.array(score.notes, np.int64).reshape(-1, 4)
    long_enough = notes[:, 1] > notes[:, 0]
    sounding = notes[long_enough]
    if not len(sounding):
        if score.drum_notes:
            raise VarError(
                f"{name}: no notes but {score.drum_notes} on the drum channel", "drums are read on request only"
            )
        raise VarError(f"{name}: no notes", "give a file with notes")
    if beats is None:
        grid = _on_ticks(score, sounding, steps_per_beat, name)
    else:
        grid = _on_beats(score, sounding, steps_per_beat, beats, name)
    return score, grid, [score.tracks[index] for index in np.flatnonzero(long_enough)]


def _piece(score: Score, grid: _OnGrid, steps_per_beat: int, vocabulary: Vocabulary) -> MidiPiece:
    steps = int(grid.notes.end.max())
    placed = place(grid.notes, steps, vocabulary)
    roll = Roll(
        cells=placed.cells,
        vocabulary=vocabulary,
        steps_per_beat=steps_per_beat,
        steps_per_bar=grid.steps_per_bar,
        tempo_bpm=grid.tempo_bpm,
        title=score.title,
        downbeats=tuple(step for step in grid.bars.tolist() if step < steps),
        beat_units=grid.beat_units,
    )
    return MidiPiece(roll, _loss(score, grid, placed))


def _loss(score: Score, grid: _OnGrid, placed: Placed) -> LossReport:
    sounding = len(grid.distance)
    moved = grid.distance[grid.distance > 1e-9]
    return LossReport(
        notes_read=len(score.notes),
        notes_written=sounding - placed.merged,
        merged=placed.merged,
        cut=placed.cut,
        moved=len(moved),
        moved_mean_steps=float(moved.mean()) if len(moved) else 0.0,
        moved_max_steps=float(moved.max()) if len(moved) else 0.0,
        dropped=len(score.notes) - sounding,
        unended=score.unended,
        drum_notes=score.drum_notes,
        off_grid=float(grid.distance.mean()),
    )


def _on_ticks(score: Score, notes: np.ndarray, steps_per_beat: int, name: str) -> _OnGrid:
    quarter = score.ticks_per_beat
    start, end, pitch, velocity = notes.T
    start_step = (2 * start * steps_per_beat + quarter) // (2 * quarter)
    end_step = np.maximum((2 * end * steps_per_beat + quarter) // (2 * quarter), start_step + 1)
    _check_length(end_step, name)
    distance = np.abs(start * steps_per_beat - start_step * quarter) / quarter
    last = int(end.max())
    bars = signature_bars(score.signatures, quarter, last)
    bar_steps = np.unique(np.floor(bars * steps_per_beat / quarter + 0.5).astype(np.int64))
    usual_bar = int(np.bincount(np.diff(bar_steps)).argmax())
    on_grid = NoteArrays(pitch, start_step, end_step, velocity)
    signatures = sorted(score.signatures, reverse=True)  # of two that are as long the first counts
    units = {4 * steps_per_beat * top // bottom: bottom for _, top, bottom in signatures}
    return _OnGrid(on_grid, distance, bar_steps, usual_bar, score.tempo_map.bpm(last), units)


def _on_beats(score: Score, notes: np.ndarray, steps_per_beat: int, beats: BeatGrid, name: str) -> _OnGrid:
    start, end, pitch, velocity = notes.T
    tempo = score.tempo_map
    seconds = tempo.seconds(start)
    position = beats.beats_at(seconds) * steps_per_beat
    nearest = np.floor(position + 0.5)
    origin = beats.origin(float(nearest.min()) // steps_per_beat)
    start_step = (nearest - origin * steps_per_beat).astype(np.int64)
    end_position = np.floor(beats.beats_at(tempo.seconds(end)) * steps_per_beat + 0.5) - origin * steps_per_beat
    end_step = np.maximum(end_position.astype(np.int64), start_step + 1)
    _check_length(end_step, name)
    bars = beats.bar_starts(origin, origin + int(end_step.max()) // steps_per_beat + 1)
    span = beats.beats_at(np.array([seconds.min(), seconds.max()]))
    elapsed = float(seconds.max() - seconds.min())
    bpm = 60.0 * float(span[1] - span[0]) / elapsed if elapsed > 0 else 60.0 / float(np.median(np.diff(beats.seconds)))
    on_grid = NoteArrays(pitch, start_step, end_step, velocity)
    bar_steps = (bars - origin) * steps_per_beat
    return _OnGrid(on_grid, np.abs(position - nearest), bar_steps, beats.beats_per_bar * steps_per_beat, bpm)


def _check_length(end_step: np.ndarray, name: str) -> None:
    if end_step.max() > MAX_STEPS:
        raise VarError(f"{name}: {end_step.max()} steps long, more than {MAX_STEPS}", "split the file")


def write_midi(
    roll: Roll, path: Path | None, tempo_bpm: float | None = None, *, tracks: Mapping[str, np.ndarray] | None = None
) -> bytes:
    """The roll as a MIDI file of format 1, a track of notes for every voice, at `tempo_bpm` or the roll's own tempo.

    `tracks` shares the cells out over tracks of these names instead, by masks bool [P, T]; a note that goes on in the
    cells of another track begins anew there. Written to `path` as well, whole or not at all, unless None. Equal rolls
    give equal bytes.
    Raises UsageError for a tempo that MIDI cannot hold; VarError if the file cannot be written.
    """
    bpm = roll.tempo_bpm if tempo_bpm is None else tempo_bpm
    if not _MIN_BPM <= bpm <= _MAX_BPM:
        raise UsageError(
            f"a tempo of {bpm:g} bpm does not fit MIDI", f"give {_MIN_BPM:g} to {_MAX_BPM} beats per minute"
        )
    per_step = max(1, round(_TICKS_PER_BEAT / roll.steps_per_beat))
    beat_us = round(60e6 / bpm)
    # pretty_midi cuts the fraction of a microsecond off; half of one keeps the noise of its floats away from that edge.
    midi = pretty_midi.PrettyMIDI(
        resolution=per_step * roll.steps_per_beat, initial_tempo=60e6 / (beat_us + 0.5), charset=_CHARSET
    )
    step_s = (beat_us + 0.5) / 1e6 / roll.steps_per_beat
    midi.time_signature_changes = [
        pretty_midi.TimeSignature(numerator, denominator, step * step_s)
        for step, numerator, denominator in _signatures(roll)
    ]
    for name, cells, whole in tracks_of(roll, tracks):
        notes, loudness = note_arrays(cells, roll.vocabulary), intensity(whole, roll.vocabulary) // 2
        columns = (loudness[notes.pitch, notes.start], notes.pitch, notes.start * step_s, notes.end * step_s)
        piano = pretty_midi.Instrument(program=0, name=name)
        piano.notes = [pretty_midi.Note(*fields) for fields in zip(*(c.tolist() for c in columns), strict=True)]
        midi.instruments.append(piano)
    data = _with_title_and_end(midi, roll.title, roll.steps * per_step)
    if path is not None:
        write_bytes(path, data)
    return data


def tracks_of(roll: Roll, masks: Mapping[str, np.ndarray] | None) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """(name, cells, the cells that say how loud they are) of the tracks that a roll is written as."""
    if masks:
        for name, mask in masks.items():
            yield name, np.where(mask, roll.cells, 0).astype(np.uint8), roll.cells
    else:
        for name, cells in (roll.voices or {"piano": roll.cells}).items():
            yield name.title(), cells, cells


def _with_title_and_end(midi: pretty_midi.PrettyMIDI, title: str, end_tick: int) -> bytes:
    """The bytes of a file, with what pretty_midi has no place for: a title, and an end later than that of the notes."""
    plain, finished = io.BytesIO(), io.BytesIO()
    midi.write(plain)
    plain.seek(0)
    file = mido.MidiFile(file=plain, charset=_CHARSET)
    if title:
        file.tracks[0].insert(0, mido.MetaMessage("track_name", name=title))
    for *events, end in file.tracks:
        end.time = max(0, end_tick - sum(event.time for event in events))
    file.save(file=finished)
    return finished.getvalue()


def _signatures(roll: Roll) -> Iterator[tuple[int, int, int]]:
    """(step, numerator, denominator) of the time signatures that put bar starts where the roll has them."""
    bars = sorted({0, *(roll.downbeats or ())})
    rest_of_roll = roll.steps - bars[-1] if roll.downbeats else 0
    lengths = [b - a for a, b in pairwise(bars)] + [max(rest_of_roll, roll.steps_per_bar)]
    before = None
    for bar, length in zip(bars, lengths, strict=True):
        for denominator in (roll.beat_units.get(length, 4), 4, 8, 16, 32, 64):
            numerator, rest = divmod(length * denominator, 4 * roll.steps_per_beat)
            if not rest and length != before and 0 < numerator < 256:
                yield bar, numerator, denominator
                break
        before = length
