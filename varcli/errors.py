"""Errors a user can mend: what happened, where, and what to do about it.

Messages name options as the command line has them, `--psf-sigma 1.3`; `in_python` says the same to who called a
function, `psf_sigma=1.3`.
"""

import re
from collections.abc import Collection

_PARAMETERS = {
    "baseline": "baseline_adu",
    "border": "border_nm",
    "format": "formats",
    "overwrite": "overwrite=True",
    "pixel-size": "pixel_size_nm",
    "polish": "estimator",
    "radius": "radius_nm",
    "read-noise": "read_noise_e",
    "render": "pixel_nm",
    "render-style": "style",
    "set": "settings",
    "sort": "sort=True",
    "surprise-map": "surprise_maps",
    "tempo": "tempo_bpm",
    "to": "scale",
}
"""Parameters that are not called like their options."""
_WORDS = "none|auto|cpu|cuda|mps|histogram|gaussian|unconditional|continuation|inpainting|harmonise|time"
_OPTION = re.compile(
    r"(?P<command>\bvar [a-z]+[^`;,]*)|--(?P<name>[a-z]+(?:-[a-z]+)*)"
    rf"(?: (?:(?P<value>'[^']*'|(?:{_WORDS})\b|(?=\S*(?:\d|[:.]\w))\S+?(?=[,;:.]?(?:\s|$)))|[A-Z]+(?:[,:|][A-Z]+)*\b))?"
)


class VarError(Exception):
    """Unreadable content or a failure at run time; the command line prints it and exits with 1.

    `message` says what is wrong and where; `hint`, if any, says what to do. As text it is both, for a caller in Python.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return in_python(self.message if self.hint is None else f"{self.message}; {self.hint}")


class UsageError(VarError):
    """A wrong option, missing path, existing output or bad config; exits with 2."""

    exit_code = 2


def one_of(option: str, value: object, choices: Collection[str]) -> None:
    """Raise UsageError for a value that is none of `choices`."""
    if value not in choices:
        raise UsageError(f"{option} {value!r}: not one of {', '.join(choices)}")


def at_least(option: str, value: float, least: float) -> None:
    """Raise UsageError for a number below `least`."""
    if not value >= least:
        raise UsageError(f"{option} is {value}", f"give at least {least}")


def in_python(message: str) -> str:
    """A message in which options are the parameters of functions; what stands for a value (`NM`) is left out."""
    return _OPTION.sub(_parameter, message)


def _parameter(option: re.Match[str]) -> str:
    if option["command"]:
        return option[0]
    name, value = _PARAMETERS.get(option["name"], option["name"].replace("-", "_")), option["value"]
    if value is None:
        return name
    return f"{name}={value}" if re.fullmatch(r"-?[\d.]+|'.*'", value) else f"{name}={value!r}"
