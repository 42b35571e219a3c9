"""The figures of `var evaluate music` for people."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import Any

from varcli.cli.output import table

_FEATURES_SHOWN = 10  # features shown, of all


def comparison_lines(document: Mapping[str, Any]) -> list[str]:
    """A row per metric, the means, and what is shared, from a document with the keys of `figures_of`."""
    rows: list[tuple[str, ...]] = [("metric", "overlap", "95%", "real", "generated", "reference")]
    for metric in document["metrics"].values():
        low, high = metric["interval"]
        spread = [f"{side['mean']:.3g} ± {side['spread']:.2g}" if "mean" in side else "" for side in _sides(metric)]
        rows.append((metric["label"], _two(metric["overlap"]), _span(low, high), _two(metric["real"]), *spread))
    core = sum(metric["core"] for metric in document["metrics"].values())
    means = (_two(document["mean_overlap"]), _span(*document["mean_overlap_interval"]))
    rows.append((f"mean of the first {core}", *means, _two(document["mean_overlap_real"]), "", ""))
    rows.append(
        (
            f"mean of all {len(rows) - 2}",
            _two(document["mean_overlap_all"]),
            "",
            _two(document["mean_overlap_all_real"]),
            "",
            "",
        )
    )
    lowest = document["lowest_metric"]
    windows, pieces, drawn = document["windows"], document["pieces"], document["real_windows"]
    facts = [
        (
            "lowest of the first",
            lowest and f"{_two(document['lowest_overlap'])}, {document['metrics'][lowest]['label']}",
        ),
        ("windows", f"{windows['generated']} generated, {windows['reference']} of {pieces['reference']} real pieces"),
        ("real", f"{drawn} real windows against those of other pieces, mean of draws" if drawn else None),
        ("silent", f"{document['silent']} generated windows without a note" if document["silent"] else None),
    ]
    facts.append(("form, 16 bars back and more", _form(document["form"]["generated"])))
    facts.append(("  real pieces", _form(document["form"]["reference"])))
    for voices, copies in (document["copies"] or {}).items():
        facts.append((f"shared, {voices.replace('_', ' ')}", _shared(copies["generated"])))
        facts.append(("  held-out pieces", _shared(copies["held_out"])))
        facts.append(("  of as many windows", _steps(copies["held_out_of_as_many"])))
    return [*_columns(rows), "", *_told_apart(document["two_sample"]), "", *table(facts)]


def _told_apart(found: Mapping[str, Any] | None) -> list[str]:
    """How well classifiers tell the two apart, and by what most."""
    if found is None:
        return ["too few pieces for a classifier: it takes ten of either side"]
    classifiers = {"all features, forest": found["forest"], "all features, logistic": found["logistic"]}
    classifiers |= {f"  {name}, forest": one for name, one in found["families"].items()}
    rows = [("told apart by", "AUC", "95%")]
    rows += [(name, f"{one['auc']:.3f}", _span(*one["interval"])) for name, one in classifiers.items()]
    features: list[tuple[str, ...]] = [("given away by", "AUC", "", "generated", "reference")]
    for one in list(found["features"].values())[:_FEATURES_SHOWN]:
        means = (f"{one[side]:.3g}" for side in ("generated", "reference"))
        features.append((one["label"], f"{one['auc']:.3f}", one["direction"], *means))
    return [*_columns(rows), "", *_columns(features)]


def _form(side: Mapping[str, Any]) -> str | None:
    """The recall of a side in words."""
    if side["recall"] is None:
        return None
    match = f"best match {_two(side['recall'])} ({_span(*side['recall_interval'])})"
    return f"{match}, {side['returns']:.0%} of bars return, {side['pieces']} pieces"


def _sides(metric: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for name in ("generated", "reference"):
        yield metric[name] if isinstance(metric[name], Mapping) and metric[name]["windows"] else {}


def _shared(side: Mapping[str, Any] | None) -> str | None:
    """A longest shared run in words."""
    if side is None:
        return None
    if not side["steps"]:
        return f"nothing in {side['windows']} windows"
    names = PurePath(side["piece"]).stem, PurePath(side["found_in"]).stem
    where = (
        f"{names[0]} step {side['step']} = {names[1]} step {side['found_step']}, {side['transposition']:+d} semitones"
    )
    return (
        f"{side['steps']} steps, {side['notes']} notes at most, half of the windows {side['median_steps']:g} ({where})"
    )


def _steps(value: float) -> str | None:
    return None if value != value else f"{value:g} steps"


def _two(value: float | None) -> str:
    return "-" if value is None or value != value else f"{value:.2f}"


def _span(low: float, high: float) -> str:
    return "" if low != low else f"{low:.2f}-{high:.2f}"


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
