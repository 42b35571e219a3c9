"""The scene of one frame: its emitters in a cell list, blocks of neighbours opened for a fit and written back.

Legend: Y X camera pixels, M places for emitters (x, y, electrons, half width of the box that was drawn), K of a block.
"""

import math
from typing import NamedTuple

import numpy as np

from varcli.compiled import kernel
from varcli.emitters.fit.background import background_step, draw_mesh, first_background, mesh, mesh_value
from varcli.emitters.fit.block import MAX_BLOCK, copy_row, copy_rows, draw_spot, fit_block
from varcli.emitters.psf.psf import half_width

CELL_PX = 4
BACKGROUND_PIXELS = 64.0
CHANGE_REACH = 6.0  # sigmas: as far as the change of an emitter is felt


class Scene(NamedTuple):
    """Emitters [M, 4], which are alive, where each came from (a candidate, or -1), and lists of them by cell.

    `changed` says in which round of moves an emitter was last changed, `round` [1] which one it is, 0 outside them.
    """

    emitters: np.ndarray
    alive: np.ndarray
    origin: np.ndarray
    prior_weight: np.ndarray
    changed: np.ndarray
    round: np.ndarray
    head: np.ndarray
    following: np.ndarray
    count: np.ndarray
    knots: np.ndarray
    scale: np.ndarray


@kernel(fastmath=True)
def new_scene(height, width, places):
    """A scene with room for `places` emitters."""
    rows, columns = mesh(height), mesh(width)
    cells_y, cells_x = height // CELL_PX + 6, width // CELL_PX + 6
    return Scene(
        np.zeros((places, 4)),
        np.zeros(places, np.bool_),
        np.full(places, -1, np.int64),
        np.ones(places),
        np.zeros(places, np.int64),
        np.zeros(1, np.int64),
        np.full((cells_y, cells_x), -1, np.int64),
        np.full(places, -1, np.int64),
        np.zeros(1, np.int64),
        np.zeros((rows, columns)),
        np.ones((rows, columns)),
    )


@kernel(fastmath=True, allocates=False)
def cell_of(scene, x, y):
    """Row and column of the cell that holds a place, which may lie a little outside the frame."""
    row = min(max(math.floor(y / CELL_PX) + 3, 0), scene.head.shape[0] - 1)
    column = min(max(math.floor(x / CELL_PX) + 3, 0), scene.head.shape[1] - 1)
    return int(row), int(column)


@kernel(fastmath=True, allocates=False)
def link(scene, k):
    """Enter emitter `k` into its cell."""
    row, column = cell_of(scene, scene.emitters[k, 0], scene.emitters[k, 1])
    scene.following[k] = scene.head[row, column]
    scene.head[row, column] = k


@kernel(fastmath=True, allocates=False)
def unlink(scene, k):
    """Take emitter `k` out of its cell."""
    row, column = cell_of(scene, scene.emitters[k, 0], scene.emitters[k, 1])
    at = scene.head[row, column]
    if at == k:
        scene.head[row, column] = scene.following[k]
        return
    while scene.following[at] != k:
        at = scene.following[at]
    scene.following[at] = scene.following[k]


@kernel(fastmath=True, allocates=False)
def neighbours(scene, psf, x, y, reach, most, found, distance):
    """Emitters within `reach` sigmas of a place, nearest first, at most `most`; returns their number."""
    wide = reach * max(psf.sigma_x_px, psf.sigma_y_px)
    ya, xa = cell_of(scene, x - wide, y - wide)
    yb, xb = cell_of(scene, x + wide, y + wide)
    count = 0
    for row in range(ya, yb + 1):
        for column in range(xa, xb + 1):
            k = scene.head[row, column]
            while k >= 0:
                u = (scene.emitters[k, 0] - x) / psf.sigma_x_px
                v = (scene.emitters[k, 1] - y) / psf.sigma_y_px
                d = math.sqrt(u * u + v * v)
                if d < reach and (count < most or d < distance[count - 1]):
                    i = min(count, most - 1)
                    while i > 0 and distance[i - 1] > d:
                        found[i], distance[i] = found[i - 1], distance[i - 1]
                        i -= 1
                    found[i], distance[i] = k, d
                    count = min(count + 1, most)
                k = scene.following[k]
    return count


@kernel(fastmath=True, allocates=False)
def changed_nearby(scene, psf, x, y, reach, since):
    """Whether an emitter within `reach` sigmas of a place was changed in round `since` of moves or later."""
    wide = reach * max(psf.sigma_x_px, psf.sigma_y_px)
    ya, xa = cell_of(scene, x - wide, y - wide)
    yb, xb = cell_of(scene, x + wide, y + wide)
    for row in range(ya, yb + 1):
        for column in range(xa, xb + 1):
            k = scene.head[row, column]
            while k >= 0:
                u = (scene.emitters[k, 0] - x) / psf.sigma_x_px
                v = (scene.emitters[k, 1] - y) / psf.sigma_y_px
                if scene.changed[k] >= since and u * u + v * v < reach * reach:
                    return True
                k = scene.following[k]
    return False


@kernel(fastmath=True, allocates=False)
def local_noise(image, x, y):
    """Standard deviation of the background at a place."""
    height, width = image.background.shape
    row, column = int(min(max(y, 0), height - 1)), int(min(max(x, 0), width - 1))
    return math.sqrt(image.excess * max(image.background[row, column] + image.shift[row, column], 1e-2))


@kernel(fastmath=True, allocates=False)
def open_block(image, scene, psf, members, count, trial, trial_count, work):
    """Window of a block and, in `work.rest`, what shines there without its members. Sets half widths of `trial`."""
    height, width = image.data.shape
    y0, y1, x0, x1 = height, 0, width, 0
    for k in range(trial_count):
        x, y = trial[k, 0], trial[k, 1]
        half = half_width(psf, trial[k, 2], local_noise(image, x, y))
        trial[k, 3] = half
        y0, y1 = min(y0, math.floor(y) - half), max(y1, math.floor(y) + half + 1)
        x0, x1 = min(x0, math.floor(x) - half), max(x1, math.floor(x) + half + 1)
    y0, x0 = min(max(int(y0), 0), height - 1), min(max(int(x0), 0), width - 1)
    y1, x1 = max(min(int(y1), height), y0 + 1), max(min(int(x1), width), x0 + 1)
    y1, x1 = min(y1, y0 + 250), min(x1, x0 + 250)
    y1 = min(y1, y0 + work.rest.shape[0] // (x1 - x0))
    for m in range(count):
        k = members[m]
        e = scene.emitters[k]
        draw_spot(image.mean, e[0], e[1], -e[2], int(e[3]), psf, work)
    at = 0
    for row in range(y0, y1):
        for column in range(x0, x1):
            work.rest[at] = image.mean[row, column]
            at += 1
    for m in range(count):
        k = members[m]
        e = scene.emitters[k]
        draw_spot(image.mean, e[0], e[1], e[2], int(e[3]), psf, work)
    return y0, y1, x0, x1


@kernel(fastmath=True, allocates=False)
def background_information(image, x, y):
    """Information on a local offset of the background that the pixels around a block give."""
    return BACKGROUND_PIXELS / local_noise(image, x, y) ** 2


@kernel(fastmath=True, allocates=False)
def place(image, scene, psf, k, x, y, electrons, work):
    """Enter emitter `k` at a place and draw it."""
    half = half_width(psf, electrons, local_noise(image, x, y))
    scene.emitters[k, 0], scene.emitters[k, 1], scene.emitters[k, 2], scene.emitters[k, 3] = x, y, electrons, half
    scene.alive[k] = True
    link(scene, k)
    draw_spot(image.mean, x, y, electrons, half, psf, work)


@kernel(fastmath=True, allocates=False)
def remove(image, scene, psf, k, work):
    """Take emitter `k` off the scene and its light off the mean."""
    e = scene.emitters[k]
    draw_spot(image.mean, e[0], e[1], -e[2], int(e[3]), psf, work)
    unlink(scene, k)
    scene.alive[k] = False


@kernel(fastmath=True, allocates=False)
def add(image, scene, psf, x, y, electrons, work):
    """A new emitter, where there is room for one."""
    k = scene.count[0]
    if k >= len(scene.alive):
        return
    scene.count[0] += 1
    scene.changed[k] = scene.round[0]
    place(image, scene, psf, k, x, y, electrons, work)


@kernel(fastmath=True, allocates=False)
def commit(image, scene, psf, members, count, trial, trial_count, work):
    """Write a fitted block back: members take the first places of `trial`, more are born, those left over die."""
    for m in range(count):
        remove(image, scene, psf, members[m], work)
    height, width = image.data.shape
    reach = 3 * max(psf.sigma_x_px, psf.sigma_y_px)
    for k in range(trial_count):
        x, y = trial[k, 0], trial[k, 1]
        if not (-reach < x < width + reach and -reach < y < height + reach):
            continue
        if k < count:
            place(image, scene, psf, members[k], x, y, trial[k, 2], work)
        else:
            add(image, scene, psf, x, y, trial[k, 2], work)


@kernel(fastmath=True)
def sweep(image, scene, psf, prior, use_prior, reach, plan, steps, work):
    """Fit every emitter, or in a round of moves those near one that it changed, jointly with neighbours within `reach`
    sigmas."""
    since = scene.round[0]
    found, distance = np.empty(MAX_BLOCK, np.int64), np.empty(MAX_BLOCK)
    trial = np.zeros((MAX_BLOCK, 4))
    done = np.zeros(len(scene.alive), np.bool_)
    for k in range(scene.count[0]):
        if not scene.alive[k] or done[k]:
            continue
        x, y = scene.emitters[k, 0], scene.emitters[k, 1]
        if since and not changed_nearby(scene, psf, x, y, CHANGE_REACH, since):
            continue
        count = neighbours(scene, psf, x, y, reach, plan.sweep_block, found, distance)
        prior_weight = 0.0
        for m in range(count):
            copy_row(scene.emitters, found[m], trial, m)
            prior_weight = max(prior_weight, scene.prior_weight[found[m]])
            done[found[m]] = True
        window = open_block(image, scene, psf, found, count, trial, count, work)
        information = background_information(image, x, y)
        fit_block(image, psf, prior, use_prior * prior_weight, window, trial, count, information, steps, work)
        commit(image, scene, psf, found, count, trial, count, work)


@kernel(fastmath=True, allocates=False)
def update_background(image, scene, psf, work):
    """A step of background and brightness, after which the mean is drawn anew."""
    background_step(image, scene.knots, scene.scale)
    height, width = image.data.shape
    draw_mesh(scene.knots, image.background)
    copy_rows(image.background, image.mean)
    for k in range(scene.count[0]):
        if scene.alive[k]:
            e = scene.emitters[k]
            e[2] *= mesh_value(scene.scale, e[1], e[0], height, width)
            e[3] = half_width(psf, e[2], local_noise(image, e[0], e[1]))
            draw_spot(image.mean, e[0], e[1], e[2], int(e[3]), psf, work)


@kernel(fastmath=True)
def open_scene(image, psf, candidates, places, work):
    """The scene of the candidates [K, 3] (x, y, electrons) of a frame over a first background."""
    height, width = image.data.shape
    scene = new_scene(height, width, places)
    first_background(image.data, image.weight, scene.knots)
    draw_mesh(scene.knots, image.background)
    copy_rows(image.background, image.mean)
    for k in range(len(candidates)):
        scene.origin[k] = k
        add(image, scene, psf, candidates[k, 0], candidates[k, 1], max(candidates[k, 2], 1.0), work)
    return scene


@kernel(fastmath=True)
def set_prior_weights(scene, psf, plan):
    """How far the prior of electrons is believed for each emitter: only where neighbours overlap it strongly."""
    found, distance = np.empty(2, np.int64), np.empty(2)
    for k in range(scene.count[0]):
        if scene.alive[k]:
            x, y = scene.emitters[k, 0], scene.emitters[k, 1]
            count = neighbours(scene, psf, x, y, 3.5, plan.pair, found, distance)
            gap = 3.5 if count < 2 else distance[1]
            scene.prior_weight[k] = min(max(3.5 - gap, 0.0), 1.0)
