"""Small symmetric systems by Cholesky factors, compiled."""

import math

from varcli.compiled import kernel


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


# The measurement of spots takes sums in order, so that its digits stay; the fit may take them in any.
_in_order, _in_any_order = kernel(allocates=False), kernel(fastmath=True, allocates=False)
factorise_in_order, solve_in_order = _in_order(factorise), _in_order(solve)
factorise, solve = _in_any_order(factorise), _in_any_order(solve)
