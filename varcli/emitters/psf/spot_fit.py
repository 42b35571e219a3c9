"""Fits of one spot in a small window: position, light, a sloped background, and the PSF itself, of each or of all.

Fisher scoring with the variance `excess · expected + read`. The local parameters of a window are x, y, light and a
plane of background; the shared ones are the logarithms of both widths and the share of light in a wider Gaussian.

Legend: P windows, W their side.
"""

import math

import numpy as np

from varcli.compiled import kernel
from varcli.emitters.psf.cholesky import factorise_in_order, solve_in_order

LOCAL, SHARED = 6, 3  # x, y, light, background, its slopes; log width along x and y, tail
_ALL = LOCAL + SHARED


@kernel()
def _profile(centre, sigma, size, out):
    """Pixel integrals of a 1D Gaussian and their derivatives by its centre and the logarithm of its width."""
    root = 1.0 / (sigma * math.sqrt(2.0))
    norm = 1.0 / (sigma * math.sqrt(2.0 * math.pi))
    before, before_g, before_z = 0.0, 0.0, 0.0
    for edge in range(size + 1):
        z = edge - centre
        value = 0.5 * math.erf(z * root)
        gauss = norm * math.exp(-((z * root) ** 2))
        if edge > 0:
            out[0, edge - 1] = value - before
            out[1, edge - 1] = before_g - gauss
            out[2, edge - 1] = before_z * before_g - z * gauss
        before, before_g, before_z = value, gauss, z


@kernel()
def linearise(window, variance, local, shared, tail_scale, excess, hessian, gradient):
    """Fill expected Hessian and gradient of the log-likelihood [9, 9], [9]; return chi² and the pixels that count."""
    size = window.shape[0]
    core_x, core_y = np.empty((3, size)), np.empty((3, size))
    wide_x, wide_y = np.empty((3, size)), np.empty((3, size))
    sigma_x, sigma_y, tail = math.exp(shared[0]), math.exp(shared[1]), shared[2]
    _profile(local[0], sigma_x, size, core_x)
    _profile(local[1], sigma_y, size, core_y)
    _profile(local[0], sigma_x * tail_scale, size, wide_x)
    _profile(local[1], sigma_y * tail_scale, size, wide_y)
    hessian[:] = 0.0
    gradient[:] = 0.0
    chi2, pixels, light = 0.0, 0, local[2]
    slope = np.empty(_ALL)
    middle = 0.5 * (size - 1)
    for y in range(size):
        for x in range(size):
            if not math.isfinite(window[y, x]):
                continue
            core, wide = core_y[0, y] * core_x[0, x], wide_y[0, y] * wide_x[0, x]
            shape = (1 - tail) * core + tail * wide
            slope[0] = light * ((1 - tail) * core_y[0, y] * core_x[1, x] + tail * wide_y[0, y] * wide_x[1, x])
            slope[1] = light * ((1 - tail) * core_y[1, y] * core_x[0, x] + tail * wide_y[1, y] * wide_x[0, x])
            slope[2] = shape
            slope[3] = 1.0
            slope[4] = (x - middle) / middle
            slope[5] = (y - middle) / middle
            slope[6] = light * ((1 - tail) * core_y[0, y] * core_x[2, x] + tail * wide_y[0, y] * wide_x[2, x])
            slope[7] = light * ((1 - tail) * core_y[2, y] * core_x[0, x] + tail * wide_y[2, y] * wide_x[0, x])
            slope[8] = light * (wide - core)
            mean = light * shape + local[3] + local[4] * slope[4] + local[5] * slope[5]
            noise = excess * max(mean, 0.05) + variance[y, x]
            residual = window[y, x] - mean
            chi2 += residual * residual / noise
            pixels += 1
            for i in range(_ALL):
                gradient[i] += slope[i] * residual / noise
                for j in range(i, _ALL):
                    hessian[i, j] += slope[i] * slope[j] / noise
    for i in range(_ALL):
        for j in range(i):
            hessian[i, j] = hessian[j, i]
    return chi2, pixels


@kernel()
def _move(local, step, size):
    """Take a bounded step of the local parameters."""
    for axis in range(2):
        local[axis] = min(max(local[axis] + min(max(step[axis], -0.7), 0.7), 0.25 * size), 0.75 * size)
    local[2] = max(local[2] + step[2], 0.3 * local[2])
    for i in range(3, LOCAL):
        local[i] += step[i]


@kernel()
def _solve(matrix, right):
    """Solve for every row of `right` [k, n], in place; the symmetric matrix is overwritten by its factor."""
    factorise_in_order(matrix, len(matrix), 1e-4, matrix)
    for k in range(len(right)):
        solve_in_order(matrix, len(matrix), right[k], right[k])


@kernel()
def fit_each(windows, variances, locals_, log_sigma, excess, rounds):
    """Fit every window with a round width of its own, from `log_sigma`; `locals_` [P, 6] are moved in place.

    Returns log widths [P], their standard deviations [P] and chi² per degree of freedom [P].
    """
    count, size = windows.shape[0], windows.shape[1]
    widths, deviations, chi2s = np.empty(count), np.empty(count), np.empty(count)
    hessian, gradient = np.empty((_ALL, _ALL)), np.empty(_ALL)
    shared = np.zeros(SHARED)
    for window in range(count):
        shared[:2], shared[2] = log_sigma, 0.0
        local = locals_[window]
        reduced, pull = np.empty((LOCAL + 1, LOCAL + 1)), np.empty((2, LOCAL + 1))
        chi2, pixels = 0.0, 1
        for _ in range(rounds):
            chi2, pixels = linearise(windows[window], variances[window], local, shared, 2.0, excess, hessian, gradient)
            for i in range(LOCAL):
                for j in range(LOCAL):
                    reduced[i, j] = hessian[i, j]
                reduced[i, LOCAL] = reduced[LOCAL, i] = hessian[i, 6] + hessian[i, 7]
                pull[0, i], pull[1, i] = gradient[i], 0.0
            reduced[LOCAL, LOCAL] = hessian[6, 6] + hessian[7, 7] + 2 * hessian[6, 7]
            pull[0, LOCAL], pull[1, LOCAL] = gradient[6] + gradient[7], 1.0
            _solve(reduced, pull)
            step = pull[0]
            _move(local, step, size)
            shared[0] = min(max(shared[0] + min(max(step[LOCAL], -0.25), 0.25), -1.2), 1.7)
            shared[1] = shared[0]
        widths[window] = shared[0]
        deviations[window] = math.sqrt(max(pull[1, LOCAL], 0.0))
        chi2s[window] = chi2 / max(1, pixels - LOCAL - 1)
    return widths, deviations, chi2s


@kernel()
def fit_shared(windows, variances, locals_, shared, tail_scale, free, excess, rounds):
    """Fit one PSF to all windows at once; `locals_` [P, 6] and `shared` [3] are moved in place.

    Only the first `free` shared parameters move. Returns their information matrix [3, 3], with the local parameters
    marginalised, the total chi² and the pixels that count.
    """
    count, size = windows.shape[0], windows.shape[1]
    hessian, gradient = np.empty((_ALL, _ALL)), np.empty(_ALL)
    steps, links = np.empty((count, LOCAL)), np.empty((count, SHARED, LOCAL))
    own, both = np.empty((LOCAL, LOCAL)), np.empty((SHARED + 1, LOCAL))
    information, total, pixels = np.zeros((SHARED, SHARED)), 0.0, 0
    for _ in range(rounds):
        information, pull = np.zeros((SHARED, SHARED)), np.zeros(SHARED)
        total, pixels = 0.0, 0
        for window in range(count):
            chi2, counted = linearise(
                windows[window], variances[window], locals_[window], shared, tail_scale, excess, hessian, gradient
            )
            for i in range(LOCAL):
                for j in range(LOCAL):
                    own[i, j] = hessian[i, j]
                for j in range(SHARED):
                    both[j, i] = hessian[i, LOCAL + j]
                both[SHARED, i] = gradient[i]
            _solve(own, both)
            for i in range(LOCAL):
                steps[window, i] = both[SHARED, i]
                for j in range(SHARED):
                    links[window, j, i] = both[j, i]
            for i in range(SHARED):
                for j in range(SHARED):
                    information[i, j] += hessian[LOCAL + i, LOCAL + j]
                    for k in range(LOCAL):
                        information[i, j] -= hessian[LOCAL + i, k] * links[window, j, k]
                pull[i] += gradient[LOCAL + i]
                for k in range(LOCAL):
                    pull[i] -= hessian[LOCAL + i, k] * steps[window, k]
            total += chi2
            pixels += counted
        step, used, moves = np.zeros(SHARED), np.empty((free, free)), np.empty((1, free))
        for i in range(free):
            moves[0, i] = pull[i]
            for j in range(free):
                used[i, j] = information[i, j]
        _solve(used, moves)
        for i in range(free):
            step[i] = moves[0, i]
        for i in range(2):
            step[i] = min(max(step[i], -0.2), 0.2)
        step[2] = min(max(shared[2] + min(max(step[2], -0.1), 0.1), 0.0), 0.5) - shared[2]
        for window in range(count):
            for i in range(LOCAL):
                for j in range(SHARED):
                    steps[window, i] -= links[window, j, i] * step[j]
            _move(locals_[window], steps[window], size)
        for i in range(SHARED):
            shared[i] += step[i]
    return information, total, pixels
