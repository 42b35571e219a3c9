"""Standard MIDI files to rolls and back, with an account of what the grid cost.

Onsets meet the grid in ticks, or in beats where an annotation says where these lie; never in rounded seconds.
"""

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import mido
import numpy as np
import pretty_midi

from varcli.errors import UsageError, VarError
from varcli.files import write_bytes
from varcli.pianoroll.roll import NoteArrays, Placed, Roll, Vocabulary, intensity, note_arrays, place, top_line
from varcli.pianoroll.score.arrangement import TICKS_PER_BEAT, Arrangement, tracks_of
from varcli.pianoroll.score.beats import BeatGrid, TempoMap, signature_bars, signatures_of
from varcli.pianoroll.score.midi_events import Score, parse_score, read_bytes
from varcli.pianoroll.score.voices import TrackRule

MAX_STEPS = 1 << 17  # four and a half hours of 16th notes at 120 bpm
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
    arrangement: Arrangement | None = None


@dataclass(frozen=True)
class _OnGrid:
    """Notes on steps, how far each onset was from its step, steps of bar starts, the usual bar, the mean tempo, the
    steps of ticks, and the denominators of time signatures (see `Roll.beat_units`)."""

    notes: NoteArrays
    distance: np.ndarray
    bars: np.ndarray
    steps_per_bar: int
    tempo_bpm: float
    steps_of: Callable[[np.ndarray], np.ndarray]
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
    score, grid, sounding = _read_grid(source, steps_per_beat, drums, beats, name)
    arrangement = Arrangement(score, grid.notes, tuple(score.parts[index] for index in sounding), grid.steps_of)
    if beats is not None:
        arrangement = arrangement.at_one_tempo()
    piece = replace(_piece(score, grid, steps_per_beat, vocabulary), arrangement=arrangement)
    tracks = [score.tracks[index] for index in sounding]
    return piece if voices is None else _in_voices(piece, arrangement, tracks, score.names[1:], voices)


def _in_voices(
    piece: MidiPiece, arrangement: Arrangement, tracks: list[str], named: list[str], rule: TrackRule
) -> MidiPiece:
    """The piece with its voices: `tracks` are the names of the tracks of notes, `named` those of all later tracks."""
    voice_of = {track: rule.voice_of(track) for track in dict.fromkeys(tracks)}
    voices = np.array([voice_of[track] for track in tracks])
    taken = frozenset(rule.names[at] for at in {*voice_of.values(), *map(rule.named_by, named)} if at is not None)
    canvases, members, notes = {}, {}, arrangement.notes
    arrangement = replace(arrangement, voices=voices)
    for index, voice in enumerate(rule.names):
        own = voices == index
        part = NoteArrays(notes.pitch[own], notes.start[own], notes.end[own], notes.velocity[own])
        canvases[voice] = place(part, piece.roll.steps, piece.roll.vocabulary).cells
        members[voice] = tuple(track for track, at in voice_of.items() if at == index)
    roll = replace(piece.roll, voices=canvases)
    return replace(piece, roll=roll, tracks=members, named=taken, arrangement=arrangement)


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
    roll, arrangement = share_out(piece.roll, voices), piece.arrangement
    if arrangement is not None and roll.voices is not None:
        on_top = roll.voices[voices[0]][arrangement.notes.pitch, arrangement.notes.start] > 0
        arrangement = replace(arrangement, voices=np.where(on_top, 0, len(voices) - 1))
    return replace(piece, roll=roll, note=note, arrangement=arrangement)


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
) -> tuple[Score, _OnGrid, list[int]]:
    """A file, its sounding notes on steps, and the index of each among its notes."""
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
    return score, grid, np.flatnonzero(long_enough).tolist()


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
    steps_of = partial(_steps_of_ticks, steps_per_beat, quarter)
    return _OnGrid(on_grid, distance, bar_steps, usual_bar, score.tempo_map.bpm(last), steps_of, units)


def _on_beats(score: Score, notes: np.ndarray, steps_per_beat: int, beats: BeatGrid, name: str) -> _OnGrid:
    start, end, pitch, velocity = notes.T
    tempo = score.tempo_map
    seconds = tempo.seconds(start)
    position = beats.beats_at(seconds) * steps_per_beat
    nearest = np.floor(position + 0.5)
    origin = beats.origin(float(nearest.min()) // steps_per_beat)
    start_step = (nearest - origin * steps_per_beat).astype(np.int64)
    steps_of = partial(_steps_on_beats, steps_per_beat, tempo, beats, origin)
    end_position = np.floor(beats.beats_at(tempo.seconds(end)) * steps_per_beat + 0.5) - origin * steps_per_beat
    end_step = np.maximum(end_position.astype(np.int64), start_step + 1)
    _check_length(end_step, name)
    bars = beats.bar_starts(origin, origin + int(end_step.max()) // steps_per_beat + 1)
    span = beats.beats_at(np.array([seconds.min(), seconds.max()]))
    elapsed = float(seconds.max() - seconds.min())
    bpm = 60.0 * float(span[1] - span[0]) / elapsed if elapsed > 0 else 60.0 / float(np.median(np.diff(beats.seconds)))
    on_grid = NoteArrays(pitch, start_step, end_step, velocity)
    bar_steps, usual_bar = (bars - origin) * steps_per_beat, beats.beats_per_bar * steps_per_beat
    return _OnGrid(on_grid, np.abs(position - nearest), bar_steps, usual_bar, bpm, steps_of)


def _steps_of_ticks(steps_per_beat: int, quarter: int, ticks: np.ndarray) -> np.ndarray:
    return ticks * steps_per_beat / quarter


def _steps_on_beats(
    steps_per_beat: int, tempo: TempoMap, beats: BeatGrid, origin: int, ticks: np.ndarray
) -> np.ndarray:
    return (beats.beats_at(tempo.seconds(ticks)) - origin) * steps_per_beat


def _check_length(end_step: np.ndarray, name: str) -> None:
    if end_step.max() > MAX_STEPS:
        raise VarError(f"{name}: {end_step.max()} steps long, more than {MAX_STEPS}", "split the file")


def write_midi(
    roll: Roll,
    path: Path | None,
    tempo_bpm: float | None = None,
    *,
    tracks: Mapping[str, np.ndarray] | None = None,
    arrangement: Arrangement | None = None,
) -> bytes:
    """The roll as a MIDI file of format 1, a track of notes for every voice, at `tempo_bpm` or the roll's own tempo.

    `tracks` shares the cells out over tracks of these names instead, by masks bool [P, T]; a note that goes on in the
    cells of another track begins anew there. What is kept of a file is written with the tracks, drums, tempos and time
    signatures of its `arrangement`. Written to `path` as well, whole or not at all, unless None. Equal rolls give equal
    bytes.
    Raises UsageError for a tempo that MIDI cannot hold; VarError if the file cannot be written.
    """
    bpm = roll.tempo_bpm if tempo_bpm is None else tempo_bpm
    if not _MIN_BPM <= bpm <= _MAX_BPM:
        raise UsageError(
            f"a tempo of {bpm:g} bpm does not fit MIDI", f"give {_MIN_BPM:g} to {_MAX_BPM} beats per minute"
        )
    per_step = max(1, round(TICKS_PER_BEAT / roll.steps_per_beat))
    if arrangement is not None:
        per_step = arrangement.ticks_per_step(roll.steps_per_beat)
    written = tracks_of(roll, tracks, arrangement)
    beat_us = round(60e6 / bpm)
    # pretty_midi cuts the fraction of a microsecond off; half of one keeps the noise of its floats away from that edge.
    midi = pretty_midi.PrettyMIDI(
        resolution=per_step * roll.steps_per_beat, initial_tempo=60e6 / (beat_us + 0.5), charset=_CHARSET
    )
    step_s = (beat_us + 0.5) / 1e6 / roll.steps_per_beat
    midi.time_signature_changes = [
        pretty_midi.TimeSignature(numerator, denominator, step * step_s)
        for step, numerator, denominator in signatures_of(roll, arrangement.signatures if arrangement else ())
    ]
    for track in written:
        notes, loudness = note_arrays(track.cells, roll.vocabulary), intensity(track.whole, roll.vocabulary) // 2
        columns = (loudness[notes.pitch, notes.start], notes.pitch, notes.start * step_s, notes.end * step_s)
        instrument = pretty_midi.Instrument(track.program, name=track.name)
        instrument.notes = [pretty_midi.Note(*fields) for fields in zip(*(c.tolist() for c in columns), strict=True)]
        midi.instruments.append(instrument)
    file = _file_of(midi, roll.title, [track.channel for track in written])
    if arrangement is not None:
        arrangement.add_to(file, per_step)
    data = _ended(file, roll.steps * per_step)
    if path is not None:
        write_bytes(path, data)
    return data


def _file_of(midi: pretty_midi.PrettyMIDI, title: str, channels: list[int | None]) -> mido.MidiFile:
    """The file, with what pretty_midi has no place for: a title, and the channels of its tracks of notes."""
    plain = io.BytesIO()
    midi.write(plain)
    plain.seek(0)
    file = mido.MidiFile(file=plain, charset=_CHARSET)
    if title:
        file.tracks[0].insert(0, mido.MetaMessage("track_name", name=title))
    for track, channel in zip(file.tracks[1:], channels, strict=True):
        for message in track:
            if channel is not None and not message.is_meta:
                message.channel = channel
    return file


def _ended(file: mido.MidiFile, end_tick: int) -> bytes:
    """The bytes of a file, whose tracks last until `end_tick` if they are not longer."""
    for *events, end in file.tracks:
        end.time = max(0, end_tick - sum(event.time for event in events))
    finished = io.BytesIO()
    file.save(file=finished)
    return finished.getvalue()
