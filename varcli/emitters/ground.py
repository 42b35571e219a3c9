"""The smooth background under emitters: a bilinear mesh of knots, fitted together with how bright all spots are.

Background and brightness of crowded emitters take from one another slowly if they are fitted in turn. So a step here
solves for two meshes at once, one added to the background and one that scales the spots.

Legend: Y X camera pixels, knots [A, B].
"""

import math

import numpy as np
from numba import njit

from varcli.emitters.spots import FLAGS

SPACING = 16


@njit(**FLAGS)
def mesh(size):
    """Number of knots along an axis of `size` pixels and the distance between them in pixels."""
    knots = max(2, math.ceil(size / SPACING) + 1)
    return knots, size / (knots - 1)


@njit(**FLAGS)
def draw_mesh(knots, out):
    """Bilinear interpolation of knots [A, B] at pixel centres [Y, X]."""
    height, width = out.shape
    step_y, step_x = height / (knots.shape[0] - 1), width / (knots.shape[1] - 1)
    for row in range(height):
        v = (row + 0.5) / step_y
        a = min(int(v), knots.shape[0] - 2)
        v -= a
        for column in range(width):
            u = (column + 0.5) / step_x
            b = min(int(u), knots.shape[1] - 2)
            u -= b
            top = knots[a, b] * (1 - u) + knots[a, b + 1] * u
            low = knots[a + 1, b] * (1 - u) + knots[a + 1, b + 1] * u
            out[row, column] = top * (1 - v) + low * v


@njit(**FLAGS)
def first_ground(data, weight, knots):
    """A first background from below: around each knot a low quantile of means over 2 x 2 pixels."""
    height, width = data.shape
    rows, columns = knots.shape
    step_y, step_x = height / (rows - 1), width / (columns - 1)
    values = np.empty((height // 2 + 1) * (width // 2 + 1))
    for a in range(rows):
        for b in range(columns):
            y0, y1 = int(max(0, (a - 0.8) * step_y)), int(min(height, (a + 0.8) * step_y))
            x0, x1 = int(max(0, (b - 0.8) * step_x)), int(min(width, (b + 0.8) * step_x))
            count = 0
            for row in range(y0, y1 - 1, 2):
                for column in range(x0, x1 - 1, 2):
                    least = min(weight[row, column], weight[row, column + 1])
                    if min(least, min(weight[row + 1, column], weight[row + 1, column + 1])) > 0:
                        total = data[row, column] + data[row, column + 1] + data[row + 1, column]
                        values[count] = 0.25 * (total + data[row + 1, column + 1])
                        count += 1
            knots[a, b] = max(np.sort(values[:count])[int(0.25 * count)], 0.02) if count else 0.02


@njit(**FLAGS)
def ground_step(image, knots, scale):
    """One step of both meshes: `knots` moves in place, `scale` [A, B] becomes what spots should be multiplied by."""
    height, width = image.data.shape
    rows, columns = knots.shape
    step_y, step_x = height / (rows - 1), width / (columns - 1)
    stencil = np.zeros((rows, columns, 2, 3, 3, 2))
    right = np.zeros((rows, columns, 2))
    basis = np.empty((4, 2))
    for row in range(height):
        v = (row + 0.5) / step_y
        a = min(int(v), rows - 2)
        v -= a
        for column in range(width):
            u = (column + 0.5) / step_x
            b = min(int(u), columns - 2)
            u -= b
            level = max(image.mean[row, column] + image.shift[row, column], 1e-2)
            inverse = image.weight[row, column] / (image.excess * level)
            if inverse <= 0:
                continue
            residual = image.data[row, column] - image.mean[row, column]
            z = residual * math.sqrt(inverse)
            if z > 3:  # an emitter not yet found must not lift the background
                inverse *= 3 / z
            signal = image.mean[row, column] - image.ground[row, column]
            for corner in range(4):
                hat = (v if corner // 2 else 1 - v) * (u if corner % 2 else 1 - u)
                basis[corner, 0], basis[corner, 1] = hat, hat * signal
            for i in range(4):
                ya, xa = a + i // 2, b + i % 2
                for f in range(2):
                    value = basis[i, f] * inverse
                    right[ya, xa, f] += value * residual
                    for j in range(4):
                        for h in range(2):
                            stencil[ya, xa, f, 1 + j // 2 - i // 2, 1 + j % 2 - i % 2, h] += value * basis[j, h]
    for a in range(rows):
        for b in range(columns):
            around, count = 0.0, 0
            for s in range(4):
                ya, xa = a + (s == 0) - (s == 1), b + (s == 2) - (s == 3)
                if 0 <= ya < rows and 0 <= xa < columns:
                    around += knots[ya, xa]
                    count += 1
            around /= count
            smooth = 1 / (0.5 * around + 0.3) ** 2
            stencil[a, b, 0, 1, 1, 0] += smooth
            right[a, b, 0] += smooth * (around - knots[a, b])
            stencil[a, b, 1, 1, 1, 1] += 100.0
    out = conjugate_gradient(stencil, right)
    for a in range(rows):
        for b in range(columns):
            knots[a, b] = max(knots[a, b] + out[a, b, 0], 0.02)
            scale[a, b] = min(max(1 + out[a, b, 1], 0.6), 1.6)


@njit(**FLAGS)
def conjugate_gradient(stencil, right):
    """Solve the system of a 3 x 3 stencil over two meshes, preconditioned by its diagonal."""
    rows, columns = right.shape[:2]
    out, residual = np.zeros_like(right), right.copy()
    direction, product = np.zeros_like(right), np.zeros_like(right)
    energy = 0.0
    for step in range(60):
        next_energy = 0.0
        for a in range(rows):
            for b in range(columns):
                for f in range(2):
                    next_energy += residual[a, b, f] ** 2 / stencil[a, b, f, 1, 1, f]
        if next_energy < 1e-4 * rows * columns:
            break
        ratio = next_energy / energy if step else 0.0
        energy = next_energy
        for a in range(rows):
            for b in range(columns):
                for f in range(2):
                    direction[a, b, f] = residual[a, b, f] / stencil[a, b, f, 1, 1, f] + ratio * direction[a, b, f]
        along = 0.0
        for a in range(rows):
            for b in range(columns):
                for f in range(2):
                    total = 0.0
                    for i in range(max(0, a - 1), min(rows, a + 2)):
                        for j in range(max(0, b - 1), min(columns, b + 2)):
                            for h in range(2):
                                total += stencil[a, b, f, i - a + 1, j - b + 1, h] * direction[i, j, h]
                    product[a, b, f] = total
                    along += total * direction[a, b, f]
        length = energy / max(along, 1e-30)
        for a in range(rows):
            for b in range(columns):
                for f in range(2):
                    out[a, b, f] += length * direction[a, b, f]
                    residual[a, b, f] -= length * product[a, b, f]
    return out
