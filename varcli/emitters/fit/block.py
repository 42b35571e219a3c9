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

MAX_BLOCK = 9
ROWS = 3 * MAX_BLOCK + 1
QUARTIC = 1.0
ROOT_2 = math.sqrt(2.0)
ROOT_TAU = math.sqrt(2.0 * math.pi)


class Optics(NamedTuple):
    """A spot: a Gaussian of two widths, of which a share `tail` stands `tail_scale` times wider."""

    sigma_x: float
    sigma_y: float
    tail: float
    tail_scale: float


class Law(NamedTuple):
    """What is thought of log electrons: normal, with a share of outliers spread `wide`; and log emitters per px²."""

    mean: float
    sd: float
    outliers: float
    wide: float
    density: float


class Image(NamedTuple):
    """One frame: data, weights (0 where unknown), read variance over excess, and the model's mean and background."""

    data: np.ndarray
    weight: np.ndarray
    shift: np.ndarray
    excess: float
    mean: np.ndarray
    ground: np.ndarray


class Plan(NamedTuple):
    """How long to look for what: the numbers of `RefineSettings`, and steps of the fits of blocks.

    Counts come from here and not from constants, since numba compiles a function anew for each constant it is called
    with.
    """

    sweeps: int
    rounds: int
    final_sweeps: int
    margin: float
    lone_margin: float
    screen: float
    model_error: float
    block: int
    sweep_steps: int = 3
    final_steps: int = 4
    settle_steps: int = 8
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


@kernel(fastmath=True)
def profile(centre, sigma, start, count, value, slope):
    """Integrals of a Gaussian over pixels start..start+count-1, and their derivatives by its centre."""
    z = (start - centre) / sigma
    cdf = math.erf(z / ROOT_2)
    pdf = math.exp(-0.5 * z * z)
    for i in range(count):
        z = (start + i + 1 - centre) / sigma
        next_cdf = math.erf(z / ROOT_2)
        next_pdf = math.exp(-0.5 * z * z)
        value[i] = 0.5 * (next_cdf - cdf)
        slope[i] = (pdf - next_pdf) / (ROOT_TAU * sigma)
        cdf, pdf = next_cdf, next_pdf


@kernel(fastmath=True)
def half_width(electrons, noise, optics):
    """Pixels from the centre pixel at which a spot sinks below a seventh of the noise of its background."""
    sigma = max(optics.sigma_x, optics.sigma_y)
    reach = 2.3
    peak = electrons * (1 - optics.tail) / (2 * math.pi * sigma * sigma) / (0.15 * noise)
    if peak > 1:
        reach = max(reach, math.sqrt(2 * math.log(peak)))
    if optics.tail > 0:
        wide = optics.tail_scale
        peak = electrons * optics.tail / (2 * math.pi * (sigma * wide) ** 2) / (0.15 * noise)
        if peak > 1:
            reach = max(reach, wide * math.sqrt(2 * math.log(peak)))
    return math.ceil(min(reach, 4.5 if optics.tail == 0 else 6.0) * sigma)


@kernel(fastmath=True)
def add_spot(image, x, y, electrons, half, optics, sign, work):
    """Add (or with sign -1 remove) a spot to a mean [Y, X], inside its box."""
    height, width = image.shape
    x0, x1 = max(0, math.floor(x) - half), min(width, math.floor(x) + half + 1)
    y0, y1 = max(0, math.floor(y) - half), min(height, math.floor(y) + half + 1)
    if x1 <= x0 or y1 <= y0:
        return
    p = work.profile
    for part in range(2):
        share = optics.tail if part else 1 - optics.tail
        if share <= 0:
            continue
        wide = optics.tail_scale if part else 1.0
        profile(x, optics.sigma_x * wide, x0, x1 - x0, p[0], p[1])
        profile(y, optics.sigma_y * wide, y0, y1 - y0, p[2], p[3])
        for i in range(y1 - y0):
            scale = sign * electrons * share * p[2, i]
            for j in range(x1 - x0):
                image[y0 + i, x0 + j] += scale * p[0, j]


@kernel(fastmath=True)
def log_law(value, law):
    """Log prior density of log electrons, with its derivative and the weight that stands for minus the second."""
    u = value - law.mean
    core = (1 - law.outliers) / law.sd * math.exp(-0.5 * (u / law.sd) ** 2)
    rare = law.outliers / law.wide * math.exp(-0.5 * (u / law.wide) ** 2)
    total = core + rare + 1e-30
    curve = (core / law.sd**2 + rare / law.wide**2) / total
    return math.log(total / ROOT_TAU), -u * curve, curve


@kernel(fastmath=True)
def evaluate(image, optics, law, belief, window, trial, count, offset, offset_information, work):
    """Objective of a block at `trial` [K, 4] (x, y, electrons, half width); fills derivatives and residuals."""
    y0, y1, x0, x1 = window
    width = x1 - x0
    pixels = (y1 - y0) * width
    mean, p, jacobian = work.mean, work.profile, work.jacobian
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
            jacobian[3 * k + row, first:last] = 0
        for part in range(2):
            share = optics.tail if part else 1 - optics.tail
            if share <= 0:
                continue
            wide = optics.tail_scale if part else 1.0
            profile(x, optics.sigma_x * wide, xa, xb - xa, p[0], p[1])
            profile(y, optics.sigma_y * wide, ya, yb - ya, p[2], p[3])
            scale = electrons * share
            for i in range(yb - ya):
                at = (ya - y0 + i) * width + xa - x0
                g, d = scale * p[2, i], scale * p[3, i]
                for j in range(xb - xa):
                    spot = g * p[0, j]
                    jacobian[3 * k, at + j] += g * p[1, j]
                    jacobian[3 * k + 1, at + j] += d * p[0, j]
                    jacobian[3 * k + 2, at + j] += spot
                    mean[at + j] += spot
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
    if belief > 0:
        for k in range(count):
            total += belief * log_law(math.log(trial[k, 2]), law)[0]
    return total


@kernel(fastmath=True)
def normal_equations(optics, law, belief, trial, count, offset, offset_information, pixels, work):
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
        fisher[3 * k, 3 * k] += 1 / optics.sigma_x**2
        fisher[3 * k + 1, 3 * k + 1] += 1 / optics.sigma_y**2
        if belief > 0:
            _, slope_law, curve = log_law(math.log(trial[k, 2]), law)
            gradient[3 * k + 2] += belief * slope_law
            fisher[3 * k + 2, 3 * k + 2] += belief * curve
        else:
            fisher[3 * k + 2, 3 * k + 2] += 1e-4


@kernel(fastmath=True)
def factorise(matrix, size, damping, factor):
    """Cholesky factor of a symmetric matrix (lower half) with its diagonal raised; returns half its log determinant."""
    total = 0.0
    for i in range(size):
        for j in range(i + 1):
            value = matrix[i, j]
            if i == j:
                value = value * (1 + damping) + 1e-9
            for k in range(j):
                value -= factor[i, k] * factor[j, k]
            if i == j:
                factor[i, i] = math.sqrt(max(value, 1e-9))
                total += math.log(factor[i, i])
            else:
                factor[i, j] = value / factor[j, j]
    return total


@kernel(fastmath=True)
def solve(factor, size, right, out):
    """Solve factor factor' out = right."""
    for i in range(size):
        value = right[i]
        for k in range(i):
            value -= factor[i, k] * out[k]
        out[i] = value / factor[i, i]
    for i in range(size - 1, -1, -1):
        value = out[i]
        for k in range(i + 1, size):
            value -= factor[k, i] * out[k]
        out[i] = value / factor[i, i]


@kernel(fastmath=True)
def fit_block(image, optics, law, belief, window, trial, count, offset_information, iterations, work):
    """Fit `trial` [K, 4] in place over a window with what else shines there fixed in `work.rest`.

    Returns the objective and half the log determinant of the information, both at the best place met.
    """
    size = 3 * count + 1
    pixels = (window[1] - window[0]) * (window[3] - window[2])
    offset = 0.0
    best = evaluate(image, optics, law, belief, window, trial, count, offset, offset_information, work)
    normal_equations(optics, law, belief, trial, count, offset, offset_information, pixels, work)
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
                sigma = optics.sigma_x if axis == 0 else optics.sigma_y
                move = min(max(work.step[3 * k + axis], -limit * sigma), limit * sigma)
                next_trial[k, axis] = trial[k, axis] + move
            change = min(max(work.step[3 * k + 2], -0.7), 1.5)
            next_trial[k, 2] = max(trial[k, 2] * (1 + change), 1.0)
            next_trial[k, 3] = trial[k, 3]
        next_offset = offset + work.step[size - 1]
        value = evaluate(image, optics, law, belief, window, next_trial, count, next_offset, offset_information, work)
        if value > best:
            best, offset = value, next_offset
            for k in range(count):
                for axis in range(3):
                    trial[k, axis] = next_trial[k, axis]
            damping = max(0.2 * damping, 1e-6)
            normal_equations(optics, law, belief, trial, count, offset, offset_information, pixels, work)
        else:
            damping = max(10 * damping, 1e-2)
            if damping > 1e3:
                break
    # Where two places are nearly one, their distance is held by the fourth order alone: its width goes as the root of
    # the information on a single place.
    for k in range(count):
        for axis in range(2):
            sigma = optics.sigma_x if axis == 0 else optics.sigma_y
            value = work.fisher[3 * k + axis, 3 * k + axis]
            work.fisher[3 * k + axis, 3 * k + axis] = value + QUARTIC * math.sqrt(value) / sigma
    return best, factorise(work.fisher, size, 0.0, work.factor)
