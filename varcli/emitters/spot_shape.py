"""The shape of spots from the emitters of a stack: width along both axes and the share of a wider part.

Every emitter that stands alone gives a score and an information on the three numbers, after its own place, electrons and
background have been taken out. Emitters whose spot is unlike the others' (two in one, a defect) are left out.

Legend: n frames, Y X camera pixels, E emitters; shape parameters are log sigma_x, log sigma_y, tail.
"""

import math
from dataclasses import replace

import numpy as np
from numba import njit

from varcli.emitters.refine import WINDOW_PIXELS, Candidates, Fitted, Noise, PhotonPrior, RefineSettings, Shape, law_of
from varcli.emitters.scene import ground_information, neighbours, open_scene, settle_ground, sweep
from varcli.emitters.spots import FLAGS, ROOT_TAU, Image, Optics, profile, workspace

WIDTH_SD, TAIL_SD = 0.15, 0.2
TRUST = 3.0


@njit(**FLAGS)
def widening(centre, sigma, start, count, out):
    """Derivative of pixel integrals of a Gaussian by log sigma."""
    z = (start - centre) / sigma
    last = z * math.exp(-0.5 * z * z)
    for i in range(count):
        z = (start + i + 1 - centre) / sigma
        here = z * math.exp(-0.5 * z * z)
        out[i] = (last - here) / ROOT_TAU
        last = here


@njit(**FLAGS)
def frame_scores(data, known, shift, excess, candidates, optics, law, apart, work):
    """Scores [E, 3] and informations [E, 3, 3] of the lone emitters of a frame."""
    height, width = data.shape
    image = Image(data, known, shift, excess, np.empty((height, width)), np.empty((height, width)))
    scene = open_scene(image, optics, candidates, len(candidates), work)
    for _ in range(3):
        settle_ground(image, scene, optics, work)
        sweep(image, scene, optics, law, 0.0, 2.5, 5, work)
    score, information = np.zeros((len(candidates), 3)), np.zeros((len(candidates), 3, 3))
    near, distance = np.empty(2, np.int64), np.empty(2)
    count = 0
    half = math.ceil(4.0 * max(optics.sigma_x, optics.sigma_y))
    a, b = np.empty((2, 3, 2 * half + 1)), np.empty((2, 3, 2 * half + 1))
    basis, matrix, right = np.empty(7), np.empty((7, 7)), np.empty(7)
    for k in range(scene.count[0]):
        x, y, electrons = scene.emitters[k, 0], scene.emitters[k, 1], scene.emitters[k, 2]
        if not scene.alive[k] or neighbours(scene, optics, x, y, apart, 2, near, distance) > 1:
            continue
        x0, y0 = math.floor(x) - half, math.floor(y) - half
        size = 2 * half + 1
        margin = half - math.ceil(2.0 * max(optics.sigma_x, optics.sigma_y))
        if x0 < -margin or y0 < -margin or x0 + size > width + margin or y0 + size > height + margin:
            continue
        for part in range(2):
            wide = optics.tail_scale if part else 1.0
            profile(x, optics.sigma_x * wide, x0, size, a[part, 0], a[part, 1])
            profile(y, optics.sigma_y * wide, y0, size, b[part, 0], b[part, 1])
            widening(x, optics.sigma_x * wide, x0, size, a[part, 2])
            widening(y, optics.sigma_y * wide, y0, size, b[part, 2])
        matrix[:], right[:] = 0, 0
        for i in range(max(0, -y0), min(size, height - y0)):
            for j in range(max(0, -x0), min(size, width - x0)):
                level = max(image.mean[y0 + i, x0 + j] + image.shift[y0 + i, x0 + j], 1e-2)
                inverse = image.weight[y0 + i, x0 + j] / (image.excess * level)
                residual = image.data[y0 + i, x0 + j] - image.mean[y0 + i, x0 + j]
                basis[:] = 0
                for part in range(2):
                    share = electrons * (optics.tail if part else 1 - optics.tail)
                    basis[0] += share * b[part, 0, i] * a[part, 1, j]
                    basis[1] += share * b[part, 1, i] * a[part, 0, j]
                    basis[2] += share * b[part, 0, i] * a[part, 0, j]
                    basis[4] += share * b[part, 0, i] * a[part, 2, j]
                    basis[5] += share * b[part, 2, i] * a[part, 0, j]
                basis[3] = 1.0
                basis[6] = electrons * (b[1, 0, i] * a[1, 0, j] - b[0, 0, i] * a[0, 0, j])
                for f in range(7):
                    right[f] += basis[f] * inverse * residual
                    for h in range(f + 1):
                        matrix[f, h] += basis[f] * inverse * basis[h]
        matrix[3, 3] += ground_information(image, x, y)
        for f in range(7):
            matrix[f, f] += 1e-9
            for h in range(f):
                matrix[h, f] = matrix[f, h]
        own = np.ascontiguousarray(matrix[:4, :4])
        mixed = np.ascontiguousarray(matrix[:4, 4:])
        solved = np.linalg.solve(own, mixed)
        score[count] = right[4:] - solved.T @ np.ascontiguousarray(right[:4])
        information[count] = matrix[4:, 4:] - mixed.T @ solved
        count += 1
    return score[:count], information[:count]


def spot_shape(
    frames_e: np.ndarray,
    fitted: Fitted,
    noise: Noise,
    sigma_px: float,
    shape: Shape | None = None,
    prior: PhotonPrior | None = None,
    most: int = 1500,
) -> tuple[float, Shape, int]:
    """Width in pixels and shape of the spots of frames [n, Y, X], and from how many lone emitters.

    The first `most` emitters are used. Needs at least 20 that stand alone; with fewer the answer is what was given and
    the number says so.
    """
    shape, settings = shape or Shape(), RefineSettings()
    candidates = Candidates(fitted.frame, fitted.x_px, fitted.y_px, fitted.electrons, np.ones(len(fitted)))
    law = law_of(candidates, prior, settings, frames_e.size)
    height, width = frames_e.shape[1:]
    shift = np.broadcast_to(np.asarray(noise.read_variance / noise.excess, np.float64), (height, width)).copy()
    stop = int(fitted.frame[min(most, len(fitted) - 1)]) + 1 if len(fitted) else 0
    start = np.array([math.log(sigma_px * math.sqrt(shape.ellipticity)), 0.0, shape.tail])
    start[1] = math.log(sigma_px / math.sqrt(shape.ellipticity))
    belief = np.diag([1 / WIDTH_SD**2, 1 / WIDTH_SD**2, 1 / TAIL_SD**2])
    at, count, work = start.copy(), 0, workspace(WINDOW_PIXELS)
    for _ in range(5):
        optics = Optics(float(math.exp(at[0])), float(math.exp(at[1])), float(at[2]), shape.tail_scale)
        parts = []
        for k in range(stop):
            rows = fitted.frame == k
            if not rows.any():
                continue
            values = np.stack([fitted.x_px[rows], fitted.y_px[rows], fitted.electrons[rows]], 1)
            data = np.asarray(frames_e[k], np.float32)
            known = np.isfinite(data)
            data, weight = np.where(known, data, np.float32(0)), known.astype(np.float32)
            parts.append(frame_scores(data, weight, shift, float(noise.excess), values, optics, law, 4.0, work))
        score = np.concatenate([p[0] for p in parts]) if parts else np.zeros((0, 3))
        information = np.concatenate([p[1] for p in parts]) if parts else np.zeros((0, 3, 3))
        chosen = alike(score, information)
        count = int(chosen.sum())
        if count < 20:
            return sigma_px, shape, count
        total = information[chosen].sum(0) + belief
        step = np.linalg.solve(total, score[chosen].sum(0) - belief @ (at - start))
        at = at + np.clip(step, -0.1, 0.1)
        at[2] = min(max(at[2], 0.0), 0.45)
        if np.all(np.abs(step) < [0.0005, 0.0005, 0.003]):
            break
    sigma = math.exp(0.5 * (at[0] + at[1]))
    return sigma, replace(shape, ellipticity=math.exp(at[0] - at[1]), tail=float(at[2])), count


def alike(score_E3: np.ndarray, information_E33: np.ndarray) -> np.ndarray:
    """Which emitters ask for about the same common width: a mask [E] without those far above or below most."""
    width_score = score_E3[:, 0] + score_E3[:, 1]
    width_information = information_E33[:, :2, :2].sum((1, 2))
    usable = width_information > 1
    if not usable.any():
        return usable
    step = np.where(usable, width_score / np.maximum(width_information, 1e-9), 0)
    middle = np.median(step[usable])
    spread = 1.4826 * np.median(np.abs(step[usable] - middle)) + 1e-3
    return usable & (np.abs(step - middle) < TRUST * spread)
