"""Spots on an image, and the joint fit of a block of overlapping ones: Fisher scoring with damping, compiled.

The mean of a pixel is background + sum over emitters of electrons * spot; its variance is excess * (mean + shift),
where shift is the read variance over the excess. The objective is the (quasi-)likelihood with that variance, which for
excess 1 is the Poisson likelihood shifted by the read variance (Huang et al., Nature Methods 2013).

Legend: Y X camera pixels, P pixels of a window in rows, K emitters of a block; parameters are x, y, log electrons of
each, then one offset of the background.
"""

import math
from typing import NamedTuple

import numpy as np

from varcli.compiled import kernel
from varcli.emitters.psf.cholesky import factorise, solve
from varcli.emitters.psf.gaussian import ROOT_TAU
from varcli.emitters.psf.psf import add_slopes, add_spot

MAX_BLOCK = 9
ROWS = 3 * MAX_BLOCK + 1
QUARTIC = 1.0


class Image(NamedTuple):
    """One frame: data, weights (0 where unknown), read variance over excess, and the model's mean and background."""

    data: np.ndarray
    weight: np.ndarray
    shift: np.ndarray
    excess: float
    mean: np.ndarray
    background: np.ndarray


class Plan(NamedTuple):
    """How long to search for what: counts of rounds, steps of the fits of blocks, and limits.

    `log_density` is the logarithm of the emitters per px². `sweeps` of the joint fit go before the search, `rounds` of
    moves at most, `final_sweeps` after it. `margin` is the log evidence that one more emitter must win near others,
    `lone_margin` where none is near; moves that a quick estimate puts below `screen` are not tried. `model_error` is
    the share of the signal by which the PSF may be wrong while counts are judged, `block` the most emitters fitted at
    once, at most MAX_BLOCK - 1. Counts come from here and not from constants, since numba compiles a function anew for
    each constant it is called with.
    """

    log_density: float
    sweeps: int = 2
    rounds: int = 8
    final_sweeps: int = 3
    margin: float = -1.0
    lone_margin: float = 4.0
    screen: float = -4.0
    model_error: float = 0.03
    block: int = 7
    sweep_steps: int = 3
    final_steps: int = 4
    base_steps: int = 8
    try_steps: int = 14
    pair: int = 2
    sweep_block: int = 5
    bound_block: int = 8


class Work(NamedTuple):
    """Memory of one block: derivatives by parameter and pixel, the same times weight, pixel sums, normal equations."""

    jacobian: np.ndarray
    weighted: np.ndarray
    rest: np.ndarray
    mean: np.ndarray
    inverse: np.ndarray
    residual: np.ndarray
    profile: np.ndarray
    fisher: np.ndarray
    gradient: np.ndarray
    factor: np.ndarray
    step: np.ndarray
    rows: np.ndarray
    trial: np.ndarray


def workspace(pixels: int) -> Work:
    """Memory for blocks whose windows hold up to `pixels` pixels."""
    single, double = np.float32, np.float64
    return Work(
        jacobian=np.zeros((ROWS, pixels), single),
        weighted=np.zeros((ROWS, pixels), single),
        rest=np.zeros(pixels, double),
        mean=np.zeros(pixels, double),
        inverse=np.zeros(pixels, single),
        residual=np.zeros(pixels, single),
        profile=np.zeros((8, 256), double),
        fisher=np.zeros((ROWS, ROWS), double),
        gradient=np.zeros(ROWS, double),
        factor=np.zeros((ROWS, ROWS), double),
        step=np.zeros(ROWS, double),
        rows=np.zeros((MAX_BLOCK, 2), np.int64),
        trial=np.zeros((MAX_BLOCK, 4), double),
    )


@kernel(fastmath=True, allocates=False)
def copy_row(source, i, target, k):
    """Row `i` [n] of an array into row `k` of another: a loop, which compiles in a fraction of the time of slices."""
    for column in range(source.shape[1]):
        target[k, column] = source[i, column]


@kernel(fastmath=True, allocates=False)
def copy_rows(source, target):
    """All rows of an array into another."""
    for row in range(source.shape[0]):
        copy_row(source, row, target, row)


@kernel(fastmath=True, allocates=False)
def draw_spot(image, x, y, electrons, half, psf, work):
    """Add a spot (or with negative electrons take it off) to a mean [Y, X], inside its box."""
    height, width = image.shape
    x0, x1 = max(0, math.floor(x) - half), min(width, math.floor(x) + half + 1)
    y0, y1 = max(0, math.floor(y) - half), min(height, math.floor(y) + half + 1)
    if x1 > x0 and y1 > y0:
        add_spot(psf, x, y, electrons, y0, y1, x0, x1, image, work.profile)


@kernel(fastmath=True, allocates=False)
def log_prior(value, prior):
    """Log prior density of log electrons, with its derivative and the weight that stands for minus the second."""
    u, sd, wide = value - prior.log_mean, prior.log_sd, 2 * prior.log_sd + 0.6
    core = (1 - prior.outliers) / sd * math.exp(-0.5 * (u / sd) ** 2)
    rare = prior.outliers / wide * math.exp(-0.5 * (u / wide) ** 2)
    total = core + rare + 1e-30
    curve = (core / sd**2 + rare / wide**2) / total
    return math.log(total / ROOT_TAU), -u * curve, curve


@kernel(fastmath=True, allocates=False)
def evaluate(image, psf, prior, prior_weight, window, trial, count, offset, offset_information, work):
    """Objective of a block at `trial` [K, 4] (x, y, electrons, half width); fills derivatives and residuals."""
    y0, y1, x0, x1 = window
    width = x1 - x0
    pixels = (y1 - y0) * width
    mean, jacobian = work.mean, work.jacobian
    for i in range(pixels):
        mean[i] = work.rest[i] + offset
    for k in range(count):
        x, y, electrons, half = trial[k, 0], trial[k, 1], trial[k, 2], int(trial[k, 3])
        xa, xb = max(x0, math.floor(x) - half), min(x1, math.floor(x) + half + 1)
        ya, yb = max(y0, math.floor(y) - half), min(y1, math.floor(y) + half + 1)
        ya, yb = min(ya, y1), max(yb, ya)
        if xb <= xa or yb <= ya:
            work.rows[k, 0] = work.rows[k, 1] = 0
            continue
        first, last = (ya - y0) * width, (yb - y0) * width
        work.rows[k, 0], work.rows[k, 1] = first, last
        for row in range(3):
            for i in range(first, last):
                jacobian[3 * k + row, i] = 0
        corner = first + xa - x0
        add_slopes(psf, x, y, electrons, ya, yb, xa, xb, corner, width, mean, jacobian, 3 * k, work.profile)
    total = -0.5 * offset * offset * offset_information
    i = 0
    for row in range(y0, y1):
        for column in range(x0, x1):
            weight = image.weight[row, column] / image.excess
            shift = image.shift[row, column]
            level = max(mean[i] + shift, 1e-2)
            data = image.data[row, column] + shift
            total += weight * (data * math.log(level) - level)
            work.inverse[i] = weight / level
            work.residual[i] = weight * (data - level) / level
            i += 1
    if prior_weight > 0:
        for k in range(count):
            total += prior_weight * log_prior(math.log(trial[k, 2]), prior)[0]
    return total


@kernel(fastmath=True, allocates=False)
def normal_equations(psf, prior, prior_weight, trial, count, offset, offset_information, pixels, work):
    """Fisher information and gradient of the block last evaluated, with what is believed before."""
    size = 3 * count + 1
    jacobian, weighted, fisher, gradient = work.jacobian, work.weighted, work.fisher, work.gradient
    inverse, residual = work.inverse, work.residual
    zero = np.float32(0)
    last = size - 1
    for k in range(count):
        first, stop = work.rows[k]
        for row in range(3 * k, 3 * k + 3):
            slope, level = zero, zero
            for i in range(first, stop):
                weighted[row, i] = jacobian[row, i] * inverse[i]
                slope += jacobian[row, i] * residual[i]
                level += weighted[row, i]
            gradient[row] = slope
            fisher[last, row] = level
        for other in range(k + 1):
            a, b = max(first, work.rows[other, 0]), min(stop, work.rows[other, 1])
            for row in range(3 * k, 3 * k + 3):
                for column in range(3 * other, 3 * other + 3):
                    product = zero
                    if column <= row:
                        for i in range(a, b):
                            product += weighted[row, i] * jacobian[column, i]
                        fisher[row, column] = product
    slope, level = zero, zero
    for i in range(pixels):
        slope += residual[i]
        level += inverse[i]
    gradient[last] = slope - offset * offset_information
    fisher[last, last] = level + offset_information
    for k in range(count):
        fisher[3 * k, 3 * k] += 1 / psf.sigma_x_px**2
        fisher[3 * k + 1, 3 * k + 1] += 1 / psf.sigma_y_px**2
        if prior_weight > 0:
            _, slope_prior, curve = log_prior(math.log(trial[k, 2]), prior)
            gradient[3 * k + 2] += prior_weight * slope_prior
            fisher[3 * k + 2, 3 * k + 2] += prior_weight * curve
        else:
            fisher[3 * k + 2, 3 * k + 2] += 1e-4


@kernel(fastmath=True, allocates=False)
def fit_block(image, psf, prior, prior_weight, window, trial, count, offset_information, iterations, work):
    """Fit `trial` [K, 4] in place over a window with what else shines there fixed in `work.rest`.

    Returns the objective and half the log determinant of the information, both at the best place met.
    """
    size = 3 * count + 1
    pixels = (window[1] - window[0]) * (window[3] - window[2])
    offset = 0.0
    best = evaluate(image, psf, prior, prior_weight, window, trial, count, offset, offset_information, work)
    normal_equations(psf, prior, prior_weight, trial, count, offset, offset_information, pixels, work)
    damping = 1e-4
    for _ in range(iterations):
        factorise(work.fisher, size, damping, work.factor)
        solve(work.factor, size, work.gradient, work.step)
        expected = 0.0
        for i in range(size):
            expected += 0.5 * work.step[i] * work.gradient[i]
        if expected < 0.003:
            break
        next_trial, limit = work.trial, 0.5
        for k in range(count):
            for axis in range(2):
                sigma = psf.sigma_x_px if axis == 0 else psf.sigma_y_px
                move = min(max(work.step[3 * k + axis], -limit * sigma), limit * sigma)
                next_trial[k, axis] = trial[k, axis] + move
            change = min(max(work.step[3 * k + 2], -0.7), 1.5)
            next_trial[k, 2] = max(trial[k, 2] * (1 + change), 1.0)
            next_trial[k, 3] = trial[k, 3]
        next_offset = offset + work.step[size - 1]
        value = evaluate(
            image, psf, prior, prior_weight, window, next_trial, count, next_offset, offset_information, work
        )
        if value > best:
            best, offset = value, next_offset
            for k in range(count):
                for axis in range(3):
                    trial[k, axis] = next_trial[k, axis]
            damping = max(0.2 * damping, 1e-6)
            normal_equations(psf, prior, prior_weight, trial, count, offset, offset_information, pixels, work)
        else:
            damping = max(10 * damping, 1e-2)
            if damping > 1e3:
                break
    # Where two places are nearly one, their distance is held by the fourth order alone: its width goes as the root of
    # the information on a single place.
    for k in range(count):
        for axis in range(2):
            sigma = psf.sigma_x_px if axis == 0 else psf.sigma_y_px
            value = work.fisher[3 * k + axis, 3 * k + axis]
            work.fisher[3 * k + axis, 3 * k + axis] = value + QUARTIC * math.sqrt(value) / sigma
    return best, factorise(work.fisher, size, 0.0, work.factor)
