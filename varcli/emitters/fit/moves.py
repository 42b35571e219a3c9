"""How many emitters: births, splits, merges and deaths, each judged by the evidence of its neighbourhood alone.

The evidence of a block is the Laplace approximation: its likelihood at the best fit, the prior of electrons and the
density of emitters at each, and the volume of what fits about as well. So a further emitter must pay for itself, by as
much as this microscope, light and density ask; nothing is tuned to one of them.

Legend: Y X camera pixels, K emitters of a block.
"""

import math

import numpy as np

from varcli.compiled import kernel
from varcli.emitters.fit.block import MAX_BLOCK, copy_row, copy_rows, fit_block, log_prior
from varcli.emitters.fit.scene import (
    CHANGE_REACH,
    background_information,
    changed_nearby,
    commit,
    local_noise,
    neighbours,
    open_block,
)
from varcli.emitters.psf.cholesky import factorise, solve
from varcli.emitters.psf.gaussian import ROOT_TAU, profile
from varcli.emitters.psf.psf import half_width

LOG_TAU = math.log(2 * math.pi)


@kernel(fastmath=True, allocates=False)
def evidence(image, psf, prior, plan, window, trial, count, x, y, iterations, work):
    """Fit a block and return the log of its evidence."""
    information = background_information(image, x, y)
    value, volume = fit_block(image, psf, prior, 1.0, window, trial, count, information, iterations, work)
    return value + count * (plan.log_density + 1.5 * LOG_TAU) - volume


@kernel(fastmath=True, allocates=False)
def occam(prior, plan, psf, z, electrons):
    """What a further emitter of significance `z` costs (negative) or wins before its likelihood is counted."""
    place = 2 * math.log(1.5 * max(psf.sigma_x_px, psf.sigma_y_px) / max(z, 1.0)) - math.log(max(z, 1.0))
    return plan.log_density + 1.5 * LOG_TAU + place + log_prior(math.log(electrons), prior)[0]


@kernel(fastmath=True)
def significance(image, psf, z_map, electrons_map):
    """Matched filter of the residual [Y, X]: its significance, and the electrons that would explain it."""
    height, width = image.data.shape
    reach = math.ceil(2.5 * max(psf.sigma_x_px, psf.sigma_y_px))
    taps = 2 * reach + 1
    gx, gy, slope = np.empty(taps), np.empty(taps), np.empty(taps)
    profile(reach + 0.5, psf.sigma_x_px, 0, taps, gx, slope)
    profile(reach + 0.5, psf.sigma_y_px, 0, taps, gy, slope)
    over, under = np.zeros((height, width)), np.zeros((height, width))
    for row in range(height):
        for column in range(width):
            level = max(image.mean[row, column] + image.shift[row, column], 1e-2)
            inverse = image.weight[row, column] / (image.excess * level)
            value = (image.data[row, column] - image.mean[row, column]) * inverse
            for i in range(max(0, reach - column), min(taps, width + reach - column)):
                over[row, column + i - reach] += gx[i] * value
                under[row, column + i - reach] += gx[i] * gx[i] * inverse
    for row in range(height):
        for column in range(width):
            z_map[row, column] = electrons_map[row, column] = 0.0
    for row in range(height):
        for i in range(max(0, reach - row), min(taps, height + reach - row)):
            a, b = gy[i], gy[i] * gy[i]
            for column in range(width):
                z_map[row + i - reach, column] += a * over[row, column]
                electrons_map[row + i - reach, column] += b * under[row, column]
    for row in range(height):
        for column in range(width):
            under_here = max(electrons_map[row, column], 1e-12)
            electrons_map[row, column] = z_map[row, column] / under_here
            z_map[row, column] /= math.sqrt(under_here)


@kernel(fastmath=True)
def gather(scene, psf, x, y, reach, most, first, members, distance):
    """Members of a block at a place: those of `first` (-1: none), then the nearest others; returns their number."""
    count = 0
    for k in first:
        if k >= 0:
            members[count] = k
            count += 1
    found, near = np.empty(MAX_BLOCK, np.int64), distance
    for i in range(neighbours(scene, psf, x, y, reach, most, found, near)):
        k = found[i]
        if count < most and k != first[0] and k != first[1]:
            members[count] = k
            count += 1
    return count


@kernel(fastmath=True)
def converged(scene, psf, x, y):
    """Whether nothing has changed around a place since the round of moves before this one."""
    return scene.round[0] > 1 and not changed_nearby(scene, psf, x, y, CHANGE_REACH, scene.round[0] - 1)


@kernel(fastmath=True)
def births(image, scene, psf, prior, plan, work):
    """Try an emitter at every significant maximum of the residual; returns how many were taken."""
    height, width = image.data.shape
    z_map, electrons_map = np.empty((height, width)), np.empty((height, width))
    significance(image, psf, z_map, electrons_map)
    members, distance = np.empty(MAX_BLOCK, np.int64), np.empty(MAX_BLOCK)
    before, trial, best = np.zeros((MAX_BLOCK, 4)), np.zeros((MAX_BLOCK, 4)), np.zeros((MAX_BLOCK, 4))
    none = np.full(2, -1, np.int64)
    taken = 0
    for row in range(height):
        for column in range(width):
            z = z_map[row, column]
            if z < 2.5:
                continue
            top = True
            for i in range(max(0, row - 1), min(height, row + 2)):
                for j in range(max(0, column - 1), min(width, column + 2)):
                    if z_map[i, j] > z:
                        top = False
            likely = math.exp(prior.log_mean)
            guess = max(electrons_map[row, column], 5.0)
            if not top or 0.5 * z * z + occam(prior, plan, psf, z, max(guess, likely)) < plan.screen + 1:
                continue
            x, y = column + 0.5, row + 0.5
            if converged(scene, psf, x, y):
                continue
            count = gather(scene, psf, x, y, 3.0, plan.block - 1, none, members, distance)
            for m in range(count):
                copy_row(scene.emitters, members[m], before, m)
            before[count, 0], before[count, 1], before[count, 2] = x, y, max(guess, 0.5 * likely)
            window = open_block(image, scene, psf, members, count, before, count + 1, work)
            old = evidence(image, psf, prior, plan, window, before, count, x, y, plan.base_steps, work)
            # the fit of `count` has left the newcomer of `before` alone
            value = -1e300
            for start in range(2 if count and distance[0] < 2.5 else 1):
                for m in range(count + 1):
                    copy_row(before, m, trial, m)
                if start == 1:
                    ux, uy = x - trial[0, 0], y - trial[0, 1]
                    long = max(math.hypot(ux / psf.sigma_x_px, uy / psf.sigma_y_px), 0.3)
                    pull = 0.6 / long
                    trial[count, 0], trial[count, 1] = trial[0, 0] + pull * ux, trial[0, 1] + pull * uy
                    trial[0, 0] -= pull * ux
                    trial[0, 1] -= pull * uy
                    trial[count, 2] = 0.5 * (trial[0, 2] + guess)
                    trial[0, 2] = trial[count, 2]
                new = evidence(image, psf, prior, plan, window, trial, count + 1, x, y, plan.try_steps, work)
                if new > value:
                    value = new
                    copy_rows(trial, best)
            if value - old > (plan.margin if count and distance[0] < 2.5 else plan.lone_margin):
                commit(image, scene, psf, members, count, best, count + 1, work)
                for m in range(count):
                    scene.changed[members[m]] = scene.round[0]
                taken += 1
    return taken


@kernel(fastmath=True)
def split_axis(image, scene, psf, k, out):
    """Gain in likelihood if the spot of `k` were wider, by a quadratic fit; its long axis as angle and distance."""
    height, width = image.data.shape
    x, y, electrons = scene.emitters[k, 0], scene.emitters[k, 1], scene.emitters[k, 2]
    half = math.ceil(2.5 * max(psf.sigma_x_px, psf.sigma_y_px))
    x0, x1 = max(0, math.floor(x) - half), min(width, math.floor(x) + half + 1)
    y0, y1 = max(0, math.floor(y) - half), min(height, math.floor(y) + half + 1)
    if x1 - x0 < 3 or y1 - y0 < 3:
        return -1e9
    columns, rows = x1 - x0, y1 - y0
    a, b = np.empty((3, columns)), np.empty((3, rows))
    profile(x, psf.sigma_x_px, x0, columns, a[0], a[1])
    profile(y, psf.sigma_y_px, y0, rows, b[0], b[1])
    for axis in range(2):
        centre, sigma = (x, psf.sigma_x_px) if axis == 0 else (y, psf.sigma_y_px)
        start, count, curve = (x0, columns, a[2]) if axis == 0 else (y0, rows, b[2])
        z = (start - centre) / sigma
        last = z * math.exp(-0.5 * z * z)
        for i in range(count):
            z = (start + i + 1 - centre) / sigma
            here = z * math.exp(-0.5 * z * z)
            curve[i] = (last - here) / (ROOT_TAU * sigma * sigma)
            last = here
    matrix, right = np.zeros((7, 7)), np.zeros(7)
    basis, step, base = np.empty(7), np.empty(7), np.empty(4)
    for i in range(rows):
        for j in range(columns):
            level = max(image.mean[y0 + i, x0 + j] + image.shift[y0 + i, x0 + j], 1e-2)
            inverse = image.weight[y0 + i, x0 + j] / (image.excess * level)
            residual = image.data[y0 + i, x0 + j] - image.mean[y0 + i, x0 + j]
            basis[0] = 1.0
            basis[1], basis[2], basis[3] = b[0, i] * a[0, j], b[0, i] * a[1, j], b[1, i] * a[0, j]
            basis[4], basis[5], basis[6] = b[0, i] * a[2, j], b[1, i] * a[1, j], b[2, i] * a[0, j]
            for f in range(1, 7):
                basis[f] *= electrons
            for f in range(7):
                right[f] += basis[f] * inverse * residual
                for h in range(f + 1):
                    matrix[f, h] += basis[f] * inverse * basis[h]
    matrix[0, 0] += background_information(image, x, y)
    for f in range(7):
        matrix[f, f] = matrix[f, f] * (1 + 1e-6)
    factorise(matrix, len(step), 0.0, matrix)
    solve(matrix, len(step), right, step)
    solve(matrix, len(base), right, base)  # as if the spot were no wider
    gain = 0.0
    for f in range(7):
        gain += 0.5 * right[f] * step[f]
        if f < 4:
            gain -= 0.5 * right[f] * base[f]
    xx, xy, yy = step[4], 0.5 * step[5], step[6]
    root = math.sqrt(0.25 * (xx - yy) ** 2 + xy * xy)
    largest = 0.5 * (xx + yy) + root
    out[0] = 0.5 * math.atan2(2 * xy, xx - yy)
    out[1] = math.sqrt(8 * max(largest, 0.0))
    return gain


@kernel(fastmath=True)
def splits(image, scene, psf, prior, plan, work):
    """Try two emitters for each one whose spot looks wide or too bright; returns how many were taken."""
    members, distance = np.empty(MAX_BLOCK, np.int64), np.empty(MAX_BLOCK)
    before, trial, best = np.zeros((MAX_BLOCK, 4)), np.zeros((MAX_BLOCK, 4)), np.zeros((MAX_BLOCK, 4))
    axis, first = np.empty(2), np.full(2, -1, np.int64)
    taken = 0
    sigma = max(psf.sigma_x_px, psf.sigma_y_px)
    for k in range(scene.count[0]):
        x, y, electrons = scene.emitters[k, 0], scene.emitters[k, 1], scene.emitters[k, 2]
        if not scene.alive[k] or converged(scene, psf, x, y):
            continue
        gain = split_axis(image, scene, psf, k, axis)
        z = 0.2 * electrons / (local_noise(image, x, y) * sigma * 3.5 + math.sqrt(image.excess * electrons))
        half = log_prior(math.log(max(0.5 * electrons, 1.0)), prior)[0]
        bonus = half - log_prior(math.log(electrons), prior)[0]
        if gain + bonus + occam(prior, plan, psf, z, max(0.5 * electrons, 1.0)) + 1.5 * math.log(3.0) < plan.screen:
            continue
        first[0] = k
        count = gather(scene, psf, x, y, 3.0, plan.block - 1, first, members, distance)
        for m in range(count):
            copy_row(scene.emitters, members[m], before, m)
        copy_row(before, 0, before, count)
        window = open_block(image, scene, psf, members, count, before, count + 1, work)
        old = evidence(image, psf, prior, plan, window, before, count, x, y, plan.base_steps, work)
        value = -1e300
        apart = min(max(axis[1], 0.7 * sigma), 2.0 * sigma)
        for start in range(2):
            for m in range(count + 1):
                copy_row(before, m, trial, m)
            angle = axis[0] + (0.5 * math.pi if start else 0.0)
            ux, uy = 0.5 * apart * math.cos(angle), 0.5 * apart * math.sin(angle)
            copy_row(trial, 0, trial, count)
            trial[0, 0] += ux
            trial[0, 1] += uy
            trial[count, 0] -= ux
            trial[count, 1] -= uy
            trial[0, 2] = trial[count, 2] = 0.5 * before[0, 2]
            new = evidence(image, psf, prior, plan, window, trial, count + 1, x, y, plan.try_steps, work)
            if new > value:
                value = new
                copy_rows(trial, best)
        if value - old > plan.margin:
            commit(image, scene, psf, members, count, best, count + 1, work)
            for m in range(count):
                scene.changed[members[m]] = scene.round[0]
            taken += 1
    return taken


@kernel(fastmath=True)
def merges(image, scene, psf, prior, plan, work):
    """Try one emitter for each close pair, and none for each dim one; returns how many were taken."""
    members, distance = np.empty(MAX_BLOCK, np.int64), np.empty(MAX_BLOCK)
    before, trial = np.zeros((MAX_BLOCK, 4)), np.zeros((MAX_BLOCK, 4))
    pair, near = np.full(2, -1, np.int64), np.empty(MAX_BLOCK, np.int64)
    taken = 0
    for k in range(scene.count[0]):
        x, y, electrons = scene.emitters[k, 0], scene.emitters[k, 1], scene.emitters[k, 2]
        if not scene.alive[k] or converged(scene, psf, x, y):
            continue
        other = -1
        if neighbours(scene, psf, x, y, 1.8, plan.pair, near, distance) > 1:
            other = near[1] if near[0] == k else near[0]
        z = electrons / (local_noise(image, x, y) * max(psf.sigma_x_px, psf.sigma_y_px) * 3.5)
        weak = 0.5 * z * z + occam(prior, plan, psf, z, electrons) < 12
        for kind in range(2):  # with its nearest, then alone
            if (kind == 0 and other < 0) or (kind == 1 and not weak) or not scene.alive[k]:
                continue
            pair[0], pair[1] = k, (other if kind == 0 else -1)
            count = gather(scene, psf, x, y, 3.0, plan.block, pair, members, distance)
            for m in range(count):
                copy_row(scene.emitters, members[m], before, m)
            window = open_block(image, scene, psf, members, count, before, count, work)
            old = evidence(image, psf, prior, plan, window, before, count, x, y, plan.base_steps, work)
            if kind == 0:
                total = before[0, 2] + before[1, 2]
                copy_row(before, 0, trial, 0)
                for i in range(2):
                    trial[0, i] = (before[0, 2] * before[0, i] + before[1, 2] * before[1, i]) / total
                trial[0, 2] = total
                trial[0, 3] = half_width(psf, total, local_noise(image, x, y))
            for m in range(1 if kind else 2, count):
                copy_row(before, m, trial, m - 1)
            new = evidence(image, psf, prior, plan, window, trial, count - 1, x, y, plan.try_steps, work)
            lone = kind == 1 and (neighbours(scene, psf, x, y, 2.5, plan.pair, near, distance) < 2)
            if old - new < (plan.lone_margin if lone else plan.margin):
                if kind == 1:  # `k` dies: it goes last, so that the others keep their places
                    for m in range(count - 1):
                        members[m] = members[m + 1]
                    members[count - 1] = k
                else:
                    for m in range(1, count - 1):
                        members[m] = members[m + 1]
                    members[count - 1] = other
                commit(image, scene, psf, members, count, trial, count - 1, work)
                for m in range(count - 1):
                    scene.changed[members[m]] = scene.round[0]
                taken += 1
    return taken
