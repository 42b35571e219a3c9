"""The smooth background under emitters: a quadratic B-spline, fitted together with how bright all spots are.

Background and the brightness of crowded emitters take from one another slowly if they are fitted in turn. So a step
here solves for two meshes at once, one added to the background and one that scales the spots. The equations are summed
over 2 x 2 pixels, within which a spline of this spacing hardly changes.

Legend: Y X camera pixels, control points [A, B] of a mesh.
"""

import math

import numpy as np

from varcli.compiled import kernel

SPACING = 12
STIFFNESS = 10.0  # of the mesh: a looser one bends under wide spots, and their places with it


@kernel(fastmath=True, allocates=False)
def mesh(size):
    """Number of control points along an axis of `size` pixels."""
    return max(1, math.ceil(size / SPACING)) + 2


@kernel(fastmath=True, allocates=False)
def spline(at, size, points, weight):
    """First of the three control points that matter at coordinate `at` in [0, size]; fills their weights [3]."""
    v = min(max(at, 0.0), size - 1e-6) * (points - 2) / size
    first = int(v)
    t = v - first
    weight[0], weight[1], weight[2] = 0.5 * (1 - t) ** 2, 0.5 + t - t * t, 0.5 * t * t
    return first


@kernel(fastmath=True)
def mesh_value(points, y, x, height, width):
    """Value of a mesh [A, B] at a place, at the border of the frame for places outside it."""
    down, right = np.empty(3), np.empty(3)
    a, b = spline(y, height, points.shape[0], down), spline(x, width, points.shape[1], right)
    total = 0.0
    for i in range(3):
        for j in range(3):
            total += down[i] * right[j] * points[a + i, b + j]
    return total


@kernel(fastmath=True)
def draw_mesh(points, out):
    """Values of a mesh [A, B] at pixel centres [Y, X]."""
    height, width = out.shape
    weight, line = np.empty(3), np.empty(points.shape[1])
    across, start = np.empty((width, 3)), np.empty(width, np.int64)
    for column in range(width):
        start[column] = spline(column + 0.5, width, points.shape[1], across[column])
    for row in range(height):
        a = spline(row + 0.5, height, points.shape[0], weight)
        for b in range(points.shape[1]):
            line[b] = weight[0] * points[a, b] + weight[1] * points[a + 1, b] + weight[2] * points[a + 2, b]
        for column in range(width):
            b, hat = start[column], across[column]
            out[row, column] = hat[0] * line[b] + hat[1] * line[b + 1] + hat[2] * line[b + 2]


@kernel(fastmath=True, allocates=False)
def ranked(values, count, rank):
    """The value of a rank (0: the least) among the first `count`, which change places: quickselect."""
    low, high = 0, count - 1
    while low < high:
        pivot, i, j = values[(low + high) // 2], low, high
        while i <= j:
            while values[i] < pivot:
                i += 1
            while values[j] > pivot:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                i, j = i + 1, j - 1
        if j < rank < i:
            break
        low, high = (low, j) if rank <= j else (i, high)
    return values[rank]


@kernel(fastmath=True)
def first_background(data, weight, points):
    """A first background from below: around each control point a low quantile of means over 2 x 2 pixels."""
    height, width = data.shape
    rows, columns = points.shape
    step_y, step_x = height / (rows - 2), width / (columns - 2)
    values = np.empty((height // 2 + 1) * (width // 2 + 1))
    for a in range(rows):
        for b in range(columns):
            y, x = min(max((a - 0.5) * step_y, 0.0), height), min(max((b - 0.5) * step_x, 0.0), width)
            y0, y1 = int(max(0, y - step_y)), int(min(height, y + step_y))
            x0, x1 = int(max(0, x - step_x)), int(min(width, x + step_x))
            count = 0
            for row in range(y0, y1 - 1, 2):
                for column in range(x0, x1 - 1, 2):
                    least = min(weight[row, column], weight[row, column + 1])
                    if min(least, min(weight[row + 1, column], weight[row + 1, column + 1])) > 0:
                        total = data[row, column] + data[row, column + 1] + data[row + 1, column]
                        values[count] = 0.25 * (total + data[row + 1, column + 1])
                        count += 1
            points[a, b] = max(ranked(values, count, int(0.3 * count)), 0.02) if count else 0.02


@kernel(fastmath=True, allocates=False)
def bin_moments(image, row, column, moments):
    """Sums over 2 x 2 pixels of information, information * signal, * signal², and of both times the residual."""
    height, width = image.data.shape
    moments[:] = 0
    for i in range(row, min(row + 2, height)):
        for j in range(column, min(column + 2, width)):
            level = max(image.mean[i, j] + image.shift[i, j], 1e-2)
            information = image.weight[i, j] / (image.excess * level)
            residual = image.data[i, j] - image.mean[i, j]
            z = residual * math.sqrt(information)
            if z > 3:  # an emitter not yet found must not lift the background
                information *= 3 / z
            signal = image.mean[i, j] - image.background[i, j]
            moments[0] += information
            moments[1] += information * signal
            moments[2] += information * signal * signal
            moments[3] += information * residual
            moments[4] += information * residual * signal


@kernel(fastmath=True, allocates=False)
def add_line(line, sums, down, a, stencil, right):
    """Add what one line of bins has gathered along it to the equations of the three rows of points that it touches."""
    columns = line.shape[0]
    for i in range(3):
        for b in range(columns):
            right[a + i, b, 0] += down[i] * sums[b, 0]
            right[a + i, b, 1] += down[i] * sums[b, 1]
        for j in range(3):
            both, v = down[i] * down[j], 2 + j - i
            for b in range(columns):
                cell = stencil[a + i, b]
                for u in range(5):
                    cell[0, v, u, 0] += both * line[b, u, 0]
                    cell[0, v, u, 1] += both * line[b, u, 1]
                    cell[1, v, u, 0] += both * line[b, u, 1]
                    cell[1, v, u, 1] += both * line[b, u, 2]


@kernel(fastmath=True)
def gather_equations(image, stencil, right):
    """The normal equations of both meshes, summed first along lines of bins: the spline is a product of two."""
    height, width = image.data.shape
    rows, columns = right.shape[:2]
    down, moments = np.empty(3), np.empty(5)
    bins = (width + 1) // 2
    across, start = np.empty((bins, 3)), np.empty(bins, np.int64)
    for n in range(bins):
        start[n] = spline(2 * n + 1.0, width, columns, across[n])
    line, sums = np.empty((columns, 5, 3)), np.empty((columns, 2))
    for row in range(0, height, 2):
        line[:], sums[:] = 0, 0
        for n in range(bins):
            bin_moments(image, row, 2 * n, moments)
            for i in range(3):
                b, hat = start[n] + i, across[n, i]
                sums[b, 0] += hat * moments[3]
                sums[b, 1] += hat * moments[4]
                for j in range(3):
                    both, u = hat * across[n, j], 2 + j - i
                    line[b, u, 0] += both * moments[0]
                    line[b, u, 1] += both * moments[1]
                    line[b, u, 2] += both * moments[2]
        a = spline(row + 1.0, height, rows, down)
        add_line(line, sums, down, a, stencil, right)


@kernel(fastmath=True)
def background_step(image, points, scale):
    """One step of both meshes: `points` moves in place, `scale` [A, B] becomes what spots should be multiplied by."""
    rows, columns = points.shape
    stencil = np.zeros((rows, columns, 2, 5, 5, 2))
    right = np.zeros((rows, columns, 2))
    gather_equations(image, stencil, right)
    for a in range(rows):
        for b in range(columns):
            around, count = 0.0, 0
            for s in range(4):
                ya, xa = a + (s == 0) - (s == 1), b + (s == 2) - (s == 3)
                if 0 <= ya < rows and 0 <= xa < columns:
                    around += points[ya, xa]
                    count += 1
            around /= count
            smooth = STIFFNESS / (0.5 * around + 0.3) ** 2
            stencil[a, b, 0, 2, 2, 0] += smooth
            right[a, b, 0] += smooth * (around - points[a, b])
            stencil[a, b, 1, 2, 2, 1] += 100.0
    out = conjugate_gradient(stencil, right)
    for a in range(rows):
        for b in range(columns):
            points[a, b] = max(points[a, b] + out[a, b, 0], 0.02)
            scale[a, b] = min(max(1 + out[a, b, 1], 0.6), 1.6)


@kernel(fastmath=True, allocates=False)
def apply_stencil(stencil, direction, product):
    """Product of the matrix of a 5 x 5 stencil with two meshes; returns its sum with them."""
    rows, columns = direction.shape[:2]
    along = 0.0
    for a in range(rows):
        for b in range(columns):
            for f in range(2):
                total = 0.0
                for i in range(max(0, a - 2), min(rows, a + 3)):
                    for j in range(max(0, b - 2), min(columns, b + 3)):
                        for h in range(2):
                            total += stencil[a, b, f, i - a + 2, j - b + 2, h] * direction[i, j, h]
                product[a, b, f] = total
                along += total * direction[a, b, f]
    return along


@kernel(fastmath=True)
def conjugate_gradient(stencil, right):
    """Solve the system of a stencil over two meshes, preconditioned by its diagonal."""
    rows, columns = right.shape[:2]
    out, residual = np.zeros_like(right), right.copy()
    direction, product = np.zeros_like(right), np.zeros_like(right)
    energy = 1.0
    for step in range(60):
        next_energy = 0.0
        for a in range(rows):
            for b in range(columns):
                for f in range(2):
                    next_energy += residual[a, b, f] ** 2 / stencil[a, b, f, 2, 2, f]
        if next_energy < 1e-4 * rows * columns:
            break
        ratio = next_energy / energy if step else 0.0
        energy = next_energy
        for a in range(rows):
            for b in range(columns):
                for f in range(2):
                    direction[a, b, f] = residual[a, b, f] / stencil[a, b, f, 2, 2, f] + ratio * direction[a, b, f]
        length = energy / max(apply_stencil(stencil, direction, product), 1e-30)
        for a in range(rows):
            for b in range(columns):
                for f in range(2):
                    out[a, b, f] += length * direction[a, b, f]
                    residual[a, b, f] -= length * product[a, b, f]
    return out
