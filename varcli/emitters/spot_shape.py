"""The shape of spots from the emitters of a stack: width along both axes and the share of a wider part.

Every emitter that stands alone gives a score and an information on the three numbers, after its own place, electrons
and background have been taken out. Emitters whose spot is unlike the others' (two in one, a defect) are left out.

Legend: n frames, Y X camera pixels, E emitters; shape parameters are log sigma_x, log sigma_y, tail.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from numba import njit

from varcli.emitters.refine import (
    WINDOW_PIXELS,
    Candidates,
    Fitted,
    Noise,
    PhotonPrior,
    RefineSettings,
    Shape,
    law_of,
    plan_of,
)
from varcli.emitters.scene import ground_information, neighbours, open_scene, settle_ground, sweep
from varcli.emitters.spots import FLAGS, ROOT_TAU, Image, Law, Optics, profile, workspace

WIDTH_SD, TAIL_SD = 0.15, 0.2
TRUST = 3.0
LEAST, ENOUGH = 15, 100
TAIL_SIGNIFICANCE, TAIL_LEAST = 3.0, 0.08


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
def frame_scores(data, known, shift, excess, candidates, optics, law, apart, plan, work):
    """Scores [E, 3] and informations [E, 3, 3] of the lone emitters of a frame."""
    height, width = data.shape
    image = Image(data, known, shift, excess, np.empty((height, width)), np.empty((height, width)))
    scene = open_scene(image, optics, candidates, len(candidates), work)
    for _ in range(3):
        settle_ground(image, scene, optics, work)
        sweep(image, scene, optics, law, 0.0, 2.5, plan, plan.final_steps, work)
    score, information = np.zeros((len(candidates), 3)), np.zeros((len(candidates), 3, 3))
    near, distance = np.empty(2, np.int64), np.empty(2)
    count = 0
    half = math.ceil(4.0 * max(optics.sigma_x, optics.sigma_y))
    a, b = np.empty((2, 3, 2 * half + 1)), np.empty((2, 3, 2 * half + 1))
    basis, matrix, right = np.empty(7), np.empty((7, 7)), np.empty(7)
    for k in range(scene.count[0]):
        x, y, electrons = scene.emitters[k, 0], scene.emitters[k, 1], scene.emitters[k, 2]
        if not scene.alive[k] or neighbours(scene, optics, x, y, apart, plan.pair, near, distance) > 1:
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

    The first `most` emitters are used. Where fewer than `LEAST` stand alone the answer is what was given, and the
    number 0. A tail that is not clearly there is left out.
    """
    shape = shape or Shape()
    candidates = Candidates(fitted.frame, fitted.x_px, fitted.y_px, fitted.electrons, np.ones(len(fitted)))
    law = law_of(candidates, prior, RefineSettings(), frames_e.size)
    root = math.sqrt(shape.ellipticity)
    start = np.array([math.log(sigma_px * root), math.log(sigma_px / root), shape.tail])
    belief = np.array([1 / WIDTH_SD**2, 1 / WIDTH_SD**2, 1 / TAIL_SD**2])
    stop = int(fitted.frame[min(most, len(fitted) - 1)]) + 1 if len(fitted) else 0
    lone = LoneEmitters(frames_e[:stop], fitted, noise, law, shape.tail_scale)
    at, sd, count = climb(lone, start, start, belief)
    if count and at[2] < max(TAIL_SIGNIFICANCE * sd[2], TAIL_LEAST):  # a spot of one part is half the work
        start[2], belief[2] = 0.0, 1e12
        at[2] = 0.0
        at, sd, count = climb(lone, at, start, belief)
    if count == 0:
        return sigma_px, shape, 0
    sigma = math.exp(0.5 * (at[0] + at[1]))
    return sigma, replace(shape, ellipticity=math.exp(at[0] - at[1]), tail=float(at[2])), count


@dataclass(frozen=True)
class LoneEmitters:
    """Emitters of some frames whose spots are compared; `informations` finds those that stand alone."""

    frames_e: np.ndarray
    fitted: Fitted
    noise: Noise
    law: Law
    tail_scale: float

    def informations(self, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Scores [E, 3] and informations [E, 3, 3] at a shape, of emitters as far from others as enough still are."""
        optics = Optics(float(math.exp(at[0])), float(math.exp(at[1])), float(at[2]), self.tail_scale)
        work, plan = workspace(WINDOW_PIXELS), plan_of(RefineSettings())
        height, width = self.frames_e.shape[1:]
        shift = np.broadcast_to(np.asarray(self.noise.read_variance / self.noise.excess, np.float64), (height, width))
        score, information = np.zeros((0, 3)), np.zeros((0, 3, 3))
        for apart in (4.0, 3.0):
            parts = []
            for k in np.unique(self.fitted.frame[self.fitted.frame < len(self.frames_e)]):
                one = self.fitted.rows(self.fitted.frame == k)
                values = np.stack([one.x_px, one.y_px, one.electrons], 1)
                data = np.asarray(self.frames_e[k], np.float32)
                known = np.isfinite(data)
                data, weight = np.where(known, data, np.float32(0)), known.astype(np.float32)
                excess = float(self.noise.excess)
                parts.append(
                    frame_scores(data, weight, shift.copy(), excess, values, optics, self.law, apart, plan, work)
                )
            if parts:
                score = np.concatenate([p[0] for p in parts])
                information = np.concatenate([p[1] for p in parts])
            if len(score) >= ENOUGH:
                break
        return score, information


def climb(
    lone: LoneEmitters, at: np.ndarray, start: np.ndarray, belief: np.ndarray
) -> tuple[np.ndarray, np.ndarray, int]:
    """Newton steps over the shape from `at`, believed to be near `start`; the shape, its sd, and from how many."""
    at, sd, count = at.copy(), np.zeros(3), 0
    for _ in range(5):
        score, information = lone.informations(at)
        chosen = alike(score, information)
        count = int(chosen.sum())
        if count < LEAST:
            return at, sd, 0
        total = information[chosen].sum(0) + np.diag(belief)
        step = np.linalg.solve(total, score[chosen].sum(0) - belief * (at - start))
        sd = np.sqrt(np.diag(np.linalg.inv(total)))
        at = at + np.clip(step, -0.1, 0.1)
        at[2] = min(max(at[2], 0.0), 0.45)
        if np.all(np.abs(step) < [0.0005, 0.0005, 0.003]):
            break
    return at, sd, count


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
