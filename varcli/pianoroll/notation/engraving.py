"""Scores as pictures, drawn by Verovio, which the extra `score` brings."""

import re

from varcli.errors import UsageError

_OPTIONS = {
    "pageWidth": 2100,
    "pageHeight": 60_000,
    "adjustPageHeight": True,
    "scale": 45,
    "footer": "none",
    "svgViewBox": True,
    "xmlIdSeed": 1,
}


# The score itself has the tempo for playing alone: some readers of MusicXML stumble over metronome marks.
_TEMPO = re.compile(r'<sound tempo="([^"]+)" />')


def _metronome(tempo: re.Match[str]) -> str:
    mark = f"<metronome><beat-unit>quarter</beat-unit><per-minute>{float(tempo[1]):.4g}</per-minute></metronome>"
    return f'<direction placement="above"><direction-type>{mark}</direction-type></direction>'


def check_engraver() -> None:
    """Raise UsageError where Verovio is not installed."""
    try:
        import verovio  # noqa: F401  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise UsageError(
            "scores as SVG need Verovio, which is not installed", 'pip install "varcli[score]", or --score musicxml'
        ) from None


def engrave(musicxml: str) -> str:
    """The picture of a score, all of it on one page, as SVG."""
    check_engraver()
    import verovio  # pyright: ignore[reportMissingImports]

    verovio.enableLog(verovio.LOG_ERROR)
    toolkit = verovio.toolkit()
    toolkit.setOptions(_OPTIONS)
    assert toolkit.loadData(_TEMPO.sub(_metronome, musicxml))
    return toolkit.renderToSVG(1)
