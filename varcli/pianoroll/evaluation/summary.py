"""A comparison of music as plain numbers, for JSON documents and tables."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from varcli.pianoroll.evaluation.comparison import Compared, MusicComparison
from varcli.pianoroll.evaluation.form import LAGS, Form
from varcli.pianoroll.evaluation.music_metrics import HISTOGRAMS
from varcli.pianoroll.evaluation.overlap import Interval
from varcli.pianoroll.evaluation.shared_runs import Shared
from varcli.pianoroll.evaluation.two_sample import TwoSample
from varcli.pianoroll.evaluation.windows import Window, pieces_of


def figures_of(comparison: MusicComparison) -> dict[str, Any]:
    """The figures of a comparison under the names that `var evaluate music --json` documents; NaN is undefined."""
    sides = {"generated": comparison.generated, "reference": comparison.reference}
    lowest = comparison.lowest
    return {
        "windows": {name: len(side) for name, side in sides.items()},
        "pieces": {name: len(pieces_of(side)) for name, side in sides.items()},
        "silent": comparison.silent,
        "mean_overlap": comparison.mean.value,
        "mean_overlap_interval": [comparison.mean.low, comparison.mean.high],
        "mean_overlap_real": comparison.real,
        "lowest_overlap": lowest.overlap.value if lowest else None,
        "lowest_metric": lowest.metric.name if lowest else None,
        "mean_overlap_all": comparison.mean_all.value,
        "mean_overlap_all_real": comparison.real_all,
        "real_windows": comparison.real_windows,
        "metrics": {one.metric.name: _figures_of_metric(one) for one in comparison.metrics},
        "two_sample": comparison.two_sample and _figures_of_two_sample(comparison.two_sample),
        "form": {"lags": LAGS.tolist()} | dict(zip(sides, map(_figures_of_form, comparison.form), strict=True)),
        "copies": {
            copies.voices.value: {
                "generated": _most_shared(copies.generated, comparison.generated, comparison),
                "held_out": _most_shared(copies.held_out, comparison.held_out, comparison),
                "held_out_of_as_many": copies.as_many,
            }
            for copies in comparison.copies
        }
        or None,
    }


def _figures_of_metric(one: Compared) -> dict[str, Any]:
    figures = {
        "label": one.metric.label,
        "unit": one.metric.unit,
        "core": one.metric.core,
        "overlap": one.overlap.value,
        "interval": [one.overlap.low, one.overlap.high],
        "real": one.real,
    }
    if one.metric in HISTOGRAMS:
        generated, reference = (shares.tolist() for shares in one.profile.shares)
        return figures | {
            "classes": one.profile.at.astype(int).tolist(),
            "generated": generated,
            "reference": reference,
        }
    return figures | {"generated": _spread(one.generated), "reference": _spread(one.reference)}


def _figures_of_two_sample(found: TwoSample) -> dict[str, Any]:
    """The classifier's figures; features from the most telling to the least."""
    table = [one.feature.family for one in found.features]
    return {
        "windows": dict(zip(("generated", "reference"), found.windows, strict=True)),
        "pieces": dict(zip(("generated", "reference"), found.pieces, strict=True)),
        "forest": _auc(found.forest),
        "logistic": _auc(found.logistic),
        "families": {name: _auc(one) | {"features": table.count(name)} for name, one in found.families.items()},
        "features": {
            f"{one.feature.family}.{one.feature.name}": {
                "label": one.feature.label,
                "auc": one.strength,
                "direction": "higher" if one.higher else "lower",
                "generated": one.generated,
                "reference": one.reference,
            }
            for one in found.features
        },
    }


def _figures_of_form(form: Form) -> dict[str, Any]:
    return {
        "pieces": form.pieces,
        "bars": form.bars,
        "best": list(map(_defined, form.best.tolist())),
        "at_lag": list(map(_defined, form.at_lag.tolist())),
        "recall": _defined(form.recall.value),
        "recall_interval": [_defined(form.recall.low), _defined(form.recall.high)],
        "returns": _defined(form.returns),
    }


def _defined(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _auc(interval: Interval) -> dict[str, Any]:
    return {"auc": interval.value, "interval": [interval.low, interval.high]}


def _spread(values: np.ndarray) -> dict[str, Any]:
    known = values[np.isfinite(values)]
    if not len(known):
        return {"mean": None, "spread": None, "median": None, "windows": 0}
    return {
        "mean": float(known.mean()),
        "spread": float(known.std()),
        "median": float(np.median(known)),
        "windows": len(known),
    }


def _most_shared(
    side: Sequence[Shared], windows: Sequence[Window], comparison: MusicComparison
) -> dict[str, Any] | None:
    """The longest run that any window of a side shares with a training piece; None if the side has no window."""
    if not side:
        return None
    index = max(range(len(side)), key=lambda at: (side[at].longest.steps, side[at].longest.notes))
    run, window = side[index].longest, windows[index]
    found = comparison.training[run.found].name if run.steps else None
    return {
        "windows": len(side),
        "steps": run.steps,
        "notes": run.notes,
        "piece": window.piece.name if run.steps else None,
        "step": window.start + run.step if run.steps else None,
        "found_in": found,
        "found_step": run.found_step if run.steps else None,
        "transposition": run.transposition if run.steps else None,
        "most_notes": max(one.richest.notes for one in side),
        "median_steps": float(np.median([one.longest.steps for one in side])),
    }
