"""One frame from candidates to fitted emitters, compiled: sweeps, rounds of moves, a last fit, and the bounds.

Legend: Y X camera pixels, K emitters.
"""

import math

import numpy as np

from varcli.compiled import kernel
from varcli.emitters.fit.block import MAX_BLOCK, Image, copy_row, copy_rows, evaluate, log_prior, normal_equations
from varcli.emitters.fit.moves import LOG_TAU, births, merges, splits
from varcli.emitters.fit.scene import (
    background_information,
    neighbours,
    open_block,
    open_scene,
    set_prior_weights,
    sweep,
    update_background,
)
from varcli.emitters.psf.cholesky import factorise, solve

FITTED = np.dtype(
    [
        ("frame", "<i8"),
        *((name, "<f8") for name in ("x_px", "y_px", "electrons", "background")),
        *((name, "<f8") for name in ("sd_x_px", "sd_y_px", "sd_electrons", "sd_background")),
        *((name, "<f8") for name in ("crlb_x_px", "crlb_y_px", "crlb_electrons", "log_odds", "chi2", "neighbour")),
        ("origin", "<i8"),
    ]
)
"""Columns of `Emitters` that the fit fills."""
CROWDED_EXCESS = 0.14  # errors among neighbours beyond the quadratic bound, measured: there, a count may be wrong


@kernel(fastmath=True, allocates=False)
def weigh_by_model_error(image, known, model_error):
    """Weights of pixels: less where a small error of the spot's shape would outweigh the noise."""
    height, width = known.shape
    for row in range(height):
        for column in range(width):
            signal = image.mean[row, column] - image.background[row, column]
            variance = image.excess * max(image.mean[row, column] + image.shift[row, column], 1e-2)
            image.weight[row, column] = known[row, column] * variance / (variance + (model_error * signal) ** 2)


@kernel(fastmath=True)
def refine_frame(data, known, shift, excess, candidates, psf, prior, use_prior, search, plan, work):
    """Emitters of one frame as rows of `FITTED`, whose frame and origin count within it."""
    height, width = data.shape
    image = Image(data, known.copy(), shift, excess, np.empty((height, width)), np.empty((height, width)))
    places = 3 * len(candidates) + 64 + height * width // 8 if search else len(candidates)
    scene = open_scene(image, psf, candidates, places, work)
    if len(candidates) == 0 and not search:
        return np.empty(0, FITTED)
    scene.prior_weight[:] = 1.0
    for _ in range(plan.sweeps):
        update_background(image, scene, psf, work)
        sweep(image, scene, psf, prior, use_prior, 2.0, plan, plan.sweep_steps, work)
    update_background(image, scene, psf, work)
    if search:
        find_number(image, known, scene, psf, prior, use_prior, plan, work)
    copy_rows(known, image.weight)
    set_prior_weights(scene, psf, plan)
    for _ in range(plan.final_sweeps):
        sweep(image, scene, psf, prior, use_prior, 2.5, plan, plan.final_steps, work)
        update_background(image, scene, psf, work)
    sweep(image, scene, psf, prior, use_prior, 2.5, plan, plan.final_steps, work)
    return report(image, scene, psf, prior, use_prior, search, plan, work)


@kernel(fastmath=True, allocates=False)
def find_number(image, known, scene, psf, prior, use_prior, plan, work):
    """Rounds of moves until none is taken; after the first only near what the one before changed.

    So the work grows with what there is to change, and frames side by side do not cost each other rounds.
    """
    for step in range(plan.rounds):
        scene.round[0] = step + 1
        weigh_by_model_error(image, known, plan.model_error)
        taken = splits(image, scene, psf, prior, plan, work)
        taken += births(image, scene, psf, prior, plan, work)
        taken += merges(image, scene, psf, prior, plan, work)
        if taken == 0:
            break
        update_background(image, scene, psf, work)
        sweep(image, scene, psf, prior, use_prior, 2.0, plan, plan.sweep_steps, work)
    scene.round[0] = 0


@kernel(fastmath=True)
def report(image, scene, psf, prior, use_prior, search, plan, work):
    """Rows of all emitters (with `search` of those inside the frame), with their uncertainties and features."""
    height, width = image.data.shape
    total = 0
    out = np.empty(scene.count[0], FITTED)
    members, distance = np.empty(MAX_BLOCK, np.int64), np.empty(MAX_BLOCK)
    trial = np.zeros((MAX_BLOCK, 4))
    unit, column = np.zeros(3 * MAX_BLOCK + 1), np.zeros(3 * MAX_BLOCK + 1)
    covariance = np.zeros((4, 4))
    for k in range(scene.count[0]):
        x, y, electrons = scene.emitters[k, 0], scene.emitters[k, 1], scene.emitters[k, 2]
        if not scene.alive[k] or (search and not (0 <= x < width and 0 <= y < height)):
            continue
        count = neighbours(scene, psf, x, y, 3.5, plan.bound_block, members, distance)
        for m in range(count):
            copy_row(scene.emitters, members[m], trial, m)
        window = open_block(image, scene, psf, members, count, trial, count, work)
        pixels = (window[1] - window[0]) * (window[3] - window[2])
        information = background_information(image, x, y)
        evaluate(image, psf, prior, 0.0, window, trial, count, 0.0, information, work)
        normal_equations(psf, prior, 0.0, trial, count, 0.0, information, pixels, work)
        size = 3 * count + 1
        row = out[total]
        for bound in range(2):
            for m in range(count):
                sign = -1.0 if bound else 1.0
                work.fisher[3 * m, 3 * m] += (sign - 1) * 0.5 / psf.sigma_x_px**2
                work.fisher[3 * m + 1, 3 * m + 1] += (sign - 1) * 0.5 / psf.sigma_y_px**2
                if use_prior > 0:
                    curve = log_prior(math.log(trial[m, 2]), prior)[2]
                    work.fisher[3 * m + 2, 3 * m + 2] += sign * curve * scene.prior_weight[members[m]]
            factorise(work.fisher, size, 0.0, work.factor)
            for i in range(4):
                at = i if i < 3 else size - 1
                for j in range(size):
                    unit[j] = 0.0
                unit[at] = 1
                solve(work.factor, size, unit, column)
                for j in range(3):
                    covariance[i, j] = column[j]
                covariance[i, 3] = column[size - 1]
            if bound == 0:
                gap = distance[1] if count > 1 else 99.0
                excess = 1 + CROWDED_EXCESS * min(max(4.5 - gap, 0.0), 1.0)
                row["sd_x_px"] = excess * math.sqrt(covariance[0, 0])
                row["sd_y_px"] = excess * math.sqrt(covariance[1, 1])
                row["sd_electrons"] = excess * electrons * math.sqrt(covariance[2, 2])
                row["sd_background"] = excess * math.sqrt(covariance[3, 3])
                row["log_odds"] = log_odds_of(covariance, electrons, prior, plan)
            else:
                row["crlb_x_px"], row["crlb_y_px"] = math.sqrt(covariance[0, 0]), math.sqrt(covariance[1, 1])
                row["crlb_electrons"] = electrons * math.sqrt(covariance[2, 2])
        row["frame"], row["x_px"], row["y_px"], row["electrons"] = 0, x, y, electrons
        inside_y, inside_x = int(min(max(y, 0), height - 1)), int(min(max(x, 0), width - 1))
        row["background"] = image.background[inside_y, inside_x]
        row["chi2"] = local_chi2(image, psf, x, y)
        row["neighbour"] = gap
        row["origin"] = scene.origin[k]
        total += 1
    return out[:total].copy()


@kernel(fastmath=True, allocates=False)
def log_odds_of(covariance, electrons, prior, plan):
    """Log evidence of an emitter by Wald's approximation, from the covariance of its x, y and log electrons."""
    a, b, c = covariance[0, 0], covariance[1, 1], covariance[2, 2]
    d, e, f = covariance[0, 1], covariance[0, 2], covariance[1, 2]
    volume = a * (b * c - f * f) - d * (d * c - e * f) + e * (d * f - e * b)
    expected = plan.log_density + log_prior(math.log(electrons), prior)[0]
    return 0.5 / c + expected + 1.5 * LOG_TAU + 0.5 * math.log(max(volume, 1e-30))


@kernel(fastmath=True, allocates=False)
def local_chi2(image, psf, x, y):
    """Mean squared residual in units of its variance within 2 sigmas of a place."""
    height, width = image.data.shape
    half = math.ceil(2 * max(psf.sigma_x_px, psf.sigma_y_px))
    total, count = 0.0, 0.0
    for row in range(max(0, math.floor(y) - half), min(height, math.floor(y) + half + 1)):
        for column in range(max(0, math.floor(x) - half), min(width, math.floor(x) + half + 1)):
            if image.weight[row, column] > 0:
                level = max(image.mean[row, column] + image.shift[row, column], 1e-2)
                total += (image.data[row, column] - image.mean[row, column]) ** 2 / (image.excess * level)
                count += 1
    return total / max(count, 1.0)
