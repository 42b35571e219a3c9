"""Which tracks of a MIDI file make which voice of a piece, by their names."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from glob import escape

from varcli.pianoroll.config import PianorollConfig
from varcli.pianoroll.train_config import EVERYTHING_ELSE


@dataclass(frozen=True)
class TrackRule:
    """The voices of a piece in order, and for each the names of its tracks: shell patterns, such as "soprano*".

    Capitals and white space around a name do not matter. A track belongs to the first voice that it is called like, or
    one of whose patterns fits its name; the pattern "*" stands for all tracks that fit no other, and the last voice
    takes them where none has it.
    """

    voices: tuple[tuple[str, tuple[str, ...]], ...]

    @classmethod
    def of(cls, config: PianorollConfig) -> "TrackRule | None":
        """The rule that a config holds; None for models without voices."""
        names = config.model.voices
        return cls.from_names({name: config.data.voices.get(name, ()) for name in names}) if names else None

    @classmethod
    def from_names(cls, voices: Mapping[str, str | Iterable[str]]) -> "TrackRule":
        """The rule of voices by name, each with a pattern or several beside its name."""
        pairs = ((name, (each,) if isinstance(each, str) else tuple(each)) for name, each in voices.items())
        return cls(tuple((name, tuple(map(_plain, (escape(name), *patterns)))) for name, patterns in pairs))

    @classmethod
    def only(cls, track: str) -> "TrackRule":
        """The rule of two voices: the tracks called `track`, under that name, and the rest."""
        return cls.from_names({track: (), f"all but {track}": EVERYTHING_ELSE})

    @property
    def names(self) -> tuple[str, ...]:
        """The voices in order."""
        return tuple(name for name, _ in self.voices)

    def named_by(self, track: str) -> int | None:
        """The index of the voice that the name of a track tells of, None if it tells of none."""
        track = _plain(track)
        for index, (_, patterns) in enumerate(self.voices):
            if any(fnmatchcase(track, pattern) for pattern in patterns if pattern != EVERYTHING_ELSE):
                return index
        return None

    def voice_of(self, track: str) -> int:
        """The index of the voice that a track of this name belongs to."""
        named = self.named_by(track)
        rest = (index for index, (_, patterns) in enumerate(self.voices) if EVERYTHING_ELSE in patterns)
        return next(rest, len(self.voices) - 1) if named is None else named


def _plain(name: str) -> str:
    return name.strip().casefold()
