"""How near `varcli.localize` comes to the limit, over many microscopes: one call, one setting, no training.

    python benchmarks/emitters.py FOLDER [--family classical|mismatch|held-out] [--seeds 1 2 3] [--only TEXT]
        [--frames-share 1.0] [--checkpoint NAME] [--sigma auto] [--write-only]

Every set is made as a TIFF stack and a camera.toml, as a lab has them; the PSF width is estimated (or `--sigma told`:
the true one within 10%). Tables, scores and FOLDER/emitters.json stay in FOLDER. Efficiency E and gap as in
docs/benchmarks.md; the limit is a perfect estimator that knows every emitter.
"""

import argparse
import json
import math
import time
import warnings
from collections import defaultdict
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tifffile
import tomli_w
from emitter_oracle import oracle, score_set
from emitter_sets import LAWS, Law, Truth, make_set
from support import print_table, run

import varcli
from varcli.emitters.evaluation.metrics import Scores
from varcli.emitters.table import EmitterTable
from varcli.emitters.tables import read_table


def main() -> None:
    """Make, run and score the sets that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--family", choices=["classical", "mismatch", "held-out"], action="append")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--only", default="", help="sets whose name holds this")
    parser.add_argument("--frames-share", type=float, default=1.0, help="share of each set's frames, for a quick look")
    parser.add_argument("--checkpoint", default="emitter-2d")
    parser.add_argument("--sigma", choices=["auto", "told"], default="auto")
    parser.add_argument("--polish", choices=["mle", "none"], default="mle", help="none: the network's answer alone")
    parser.add_argument("--write-only", action="store_true", help="make the sets, run nothing")
    options = parser.parse_args()
    chosen = [law for law in LAWS.values() if options.only in law.name]
    chosen = [law for law in chosen if not options.family or law.family in options.family]
    results = []
    for seed in options.seeds:
        for law in chosen:
            law = replace(law, frames=max(8, round(law.frames * options.frames_share)))
            folder = options.folder / f"{seed}" / law.name
            truth = write_set(law, seed, folder)
            if options.write_only:
                continue
            began = time.perf_counter()
            found = localize(folder, options.checkpoint, _sigma(law, seed, options.sigma), options.polish)
            results.append(result_of(law, seed, found, truth, time.perf_counter() - began))
            print(line_of(results[-1]), flush=True)
    if results:
        (options.folder / "emitters.json").write_text(json.dumps(results, indent=1))
        print()
        print_summary(results)


def write_set(law: Law, seed: int, folder: Path) -> Truth:
    """Leave stack.tif and camera.toml in the folder."""
    counts, truth = make_set(law, seed)
    folder.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(folder / "stack.tif", counts, photometric="minisblack")
    told = law.told
    known = {name: getattr(told, name) for name in ("pixel_size_nm", "baseline_adu", "e_per_adu", "read_noise_e")}
    if told.em_gain:
        known["em_gain"] = told.em_gain
    (folder / "camera.toml").write_text(tomli_w.dumps({"camera": known}))
    return truth


def _sigma(law: Law, seed: int, how: str) -> float | None:
    if how == "auto":
        return None
    return round(law.sigma_px * math.exp(np.random.default_rng([seed, 5]).uniform(-0.1, 0.1)), 4)


def localize(folder: Path, checkpoint: str, sigma: float | None, estimator: Literal["mle", "none"]) -> EmitterTable:
    """Localise the set in the folder, without pictures, and leave what it rests on in provenance.json."""
    outputs = varcli.Outputs(("bench",), varcli.Rendering(None), map="none")
    camera, known = folder / "camera.toml", {"psf_sigma": sigma, "checkpoint": checkpoint, "estimator": estimator}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they are part of the provenance
        found = varcli.localize(
            folder / "stack.tif", camera=camera, **known, outputs=outputs, output_dir=folder, overwrite=True
        )
    if found.failures:
        raise found.failures[0]
    (folder / "provenance.json").write_text(json.dumps(found.provenance, indent=1))
    return read_table(folder / "stack_bench.csv")


def result_of(law: Law, seed: int, found: EmitterTable, truth: Truth, seconds: float) -> dict[str, Any]:
    """Scores, the limit and the gap to it, or false positives per 1000 frames where nothing is there."""
    result: dict[str, Any] = {"set": law.name, "family": law.family, "seed": seed, "frames": law.frames}
    result |= {"density": law.density, "kind": law.kind, "faithful": law.faithful, "seconds": seconds}
    scores = score_set(law, found, truth)
    result |= {"scores": _plain(scores)}
    if law.density == 0:
        return result | {"false_per_1000": 1000 * scores.false_positives / law.frames}
    result |= {"errors": _errors(scores)}
    if law.kind == "blink":
        return result
    limit, bound_nm = oracle(law, truth)
    result |= {"oracle": _plain(limit), "gap": limit.efficiency - scores.efficiency}
    return result | {"rmse_over_bound": scores.rmse_axis_nm / bound_nm, "bound_nm": bound_nm}


def _plain(scores: Scores) -> dict[str, Any]:
    return {name: None if value != value else value for name, value in asdict(scores).items()}


def _errors(scores: Scores) -> dict[str, float]:
    """Standard errors of the bias and the chance level of gridding."""
    count = max(1, scores.true_positives)
    return {"bias_nm": scores.rmse_axis_nm / math.sqrt(count), "gridding": 3 / math.sqrt(count)}


def line_of(result: dict[str, Any]) -> str:
    """What is printed while it runs."""
    if "false_per_1000" in result:
        return f"{result['set']:34s} {result['false_per_1000']:.1f} false positives per 1000 frames"
    scores, limit = result["scores"], result.get("oracle")
    text = f"{result['set']:34s} E {scores['efficiency']:6.2f} Jaccard {scores['jaccard']:6.2f} "
    text += f"precision {scores['precision']:.3f} recall {scores['recall']:.3f} RMSE {scores['rmse_nm']:6.2f} nm "
    if limit:
        text += f"limit {limit['efficiency']:6.2f} gap {result['gap']:5.2f} RMSE/bound {result['rmse_over_bound']:.3f} "
    return (
        text
        + f"N/N0 {scores['photon_ratio']:.3f} within 1 sd {scores['within_1_sd']} p error {scores['probability_error']}"
    )


def print_summary(results: list[dict[str, Any]]) -> None:
    """Mean and worst gaps by family and density, isolated emitters, empty frames and calibration."""
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for result in results:
        if "gap" in result:
            groups[f"{result['family']}, all"].append(result)
            if result["kind"] == "grid":
                groups[f"{result['family']}, isolated"].append(result)
            else:
                groups[f"{result['family']}, {result['density']:g}/µm²"].append(result)
    rows = []
    for name, group in sorted(groups.items()):
        gaps = [result["gap"] for result in group]
        worst = max(group, key=lambda result: result["gap"])
        ratio = np.mean([result["rmse_over_bound"] for result in group])
        rows.append(
            [name, str(len(group)), f"{np.mean(gaps):.2f}", f"{max(gaps):.2f} ({worst['set']})", f"{ratio:.3f}"]
        )
    print_table(["sets", "number", "mean gap, E", "worst", "RMSE/bound"], rows)
    empty = [result["false_per_1000"] for result in results if "false_per_1000" in result]
    if empty:
        print(f"\nempty frames: {', '.join(f'{value:.1f}' for value in empty)} false positives per 1000")
    for faithful, name in ((True, "as told"), (False, "not as told")):
        group = [result["scores"] for result in results if result["faithful"] is faithful and "errors" in result]
        group = [scores for scores in group if scores["within_1_sd"] is not None]
        if not group:
            continue
        weights = np.array([scores["true_positives"] for scores in group], float)
        means = [
            float(np.average([scores[key] or 0.0 for scores in group], weights=weights))
            for key in ("within_1_sd", "within_2_sd", "probability_error")
        ]
        shares = f"within 1 sd {means[0]:.3f}, 2 sd {means[1]:.3f}"
        print(f"camera and PSF {name}: {shares}, mean probability error {means[2]:.3f}")


if __name__ == "__main__":
    run(main)
