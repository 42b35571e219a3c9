"""Names of pitches in a key, and the accidentals that stand before them.

Names lie on a line of fifths: F is -1, C 0, G 1, and so on; seven steps along it are a sharp.
"""

from dataclasses import dataclass, field

_LETTERS = "FCGDAEB"
_BELOW = {False: 4, True: 3}  # fifths below the tonic of the major key that still are flats, in major and in minor


@dataclass(frozen=True)
class Signature:
    """A key signature: sharps, or flats as negative numbers, and whether the key is minor."""

    fifths: int
    minor: bool

    @classmethod
    def of(cls, tonic: int, minor: bool) -> "Signature":
        """That of a key; of those that sound alike, one with six flats at most."""
        return cls(((tonic + 3 * minor) * 7 + 6) % 12 - 6, minor)

    @property
    def alters(self) -> dict[str, int]:
        """By how many semitones each letter is raised."""
        return {letter: (self.fifths - at + 6) // 7 for at, letter in enumerate(_LETTERS)}

    def name(self, pitch: int) -> "Name":
        """The name of a MIDI pitch in this key."""
        low = self.fifths - _BELOW[self.minor]
        along = low + (pitch * 7 - low) % 12
        alter = (along + 1) // 7
        return Name(_LETTERS[(along + 1) % 7], alter, (pitch - alter) // 12 - 1)


@dataclass(frozen=True)
class Name:
    """A letter, semitones by which it is raised, and its octave; C4 is middle C."""

    letter: str
    alter: int
    octave: int


@dataclass
class Accidentals:
    """What holds in a bar of a staff: the signature, and what stood before earlier notes of the bar."""

    signature: Signature
    _held: dict[tuple[str, int], int] = field(default_factory=dict)

    def before(self, name: Name) -> str | None:
        """The accidental that this note needs, if it needs one; call it in the order of time."""
        place = (name.letter, name.octave)
        if name.alter == self._held.get(place, self.signature.alters[name.letter]):
            return None
        self._held[place] = name.alter
        return {-2: "flat-flat", -1: "flat", 0: "natural", 1: "sharp", 2: "double-sharp"}[name.alter]
