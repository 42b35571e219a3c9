"""Pairs of found and true emitters: as many as lie within a radius, then those with the least summed distance.

Legend: E found emitters, G true emitters, P pairs.
"""

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_matrix, csr_matrix
from scipy.sparse.csgraph import connected_components, min_weight_full_bipartite_matching
from scipy.spatial import KDTree

_UNMATCHED = 1000.0  # radii that a missing pair costs: more than any chain of pairs could save
_DENSE_CELLS = 1 << 20  # of a distance matrix; larger clusters are solved on the sparse graph


def match_emitters(
    found_frame_E: np.ndarray,
    found_E2: np.ndarray,
    true_frame_G: np.ndarray,
    true_G2: np.ndarray,
    radius: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Indices (found [P], true [P]) of the best one-to-one pairs within each frame, sorted by the true one.

    The neighbour graph of all frames falls apart into small clusters that are solved one by one: this is exactly the
    Hungarian matching of the whole, at a cost that grows with the number of emitters.
    """
    found_P, true_P, distance_P = _neighbours(found_frame_E, found_E2, true_frame_G, true_G2, radius)
    if not len(found_P):
        return np.empty(0, np.int64), np.empty(0, np.int64)
    n_found, n_true = len(found_E2), len(true_G2)
    edges = coo_matrix((np.ones(len(found_P)), (found_P, n_found + true_P)), shape=(n_found + n_true,) * 2)
    _, cluster = connected_components(edges, directed=False)
    order = np.argsort(cluster[found_P], kind="stable")
    bounds = np.flatnonzero(np.diff(cluster[found_P][order], prepend=-1, append=-1))
    alone = np.diff(bounds) == 1
    chosen = [order[bounds[:-1][alone]]]
    for start, stop in zip(bounds[:-1][~alone], bounds[1:][~alone], strict=True):
        pairs = order[start:stop]
        chosen.append(pairs[_best_pairs(found_P[pairs], true_P[pairs], distance_P[pairs], radius)])
    kept = np.concatenate(chosen)
    kept = kept[np.argsort(true_P[kept], kind="stable")]
    return found_P[kept], true_P[kept]


def _neighbours(
    found_frame_E: np.ndarray, found_E2: np.ndarray, true_frame_G: np.ndarray, true_G2: np.ndarray, radius: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All pairs of the same frame within the radius, as indices and distances."""
    if not len(found_E2) or not len(true_G2):
        return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0)
    # Frames become a third axis, far enough apart that no pair spans two of them.
    apart = 4.0 * radius
    found = KDTree(np.column_stack([found_E2, found_frame_E * apart]))
    true = KDTree(np.column_stack([true_G2, true_frame_G * apart]))
    pairs = found.sparse_distance_matrix(true, radius, output_type="ndarray")
    return pairs["i"].astype(np.int64), pairs["j"].astype(np.int64), pairs["v"]


def _best_pairs(found_P: np.ndarray, true_P: np.ndarray, distance_P: np.ndarray, radius: float) -> np.ndarray:
    """Which of a cluster's pairs to keep."""
    _, row_P = np.unique(found_P, return_inverse=True)
    _, column_P = np.unique(true_P, return_inverse=True)
    rows, columns = int(row_P.max()) + 1, int(column_P.max()) + 1
    if rows * columns > _DENSE_CELLS:
        return _sparse_pairs(row_P, column_P, distance_P, _UNMATCHED * radius)
    cost = np.full((rows, columns), _UNMATCHED * radius)
    cost[row_P, column_P] = distance_P
    pair = np.full((rows, columns), -1)
    pair[row_P, column_P] = np.arange(len(row_P))
    pairs = pair[linear_sum_assignment(cost)]
    return pairs[pairs >= 0]


def _sparse_pairs(row_P: np.ndarray, column_P: np.ndarray, distance_P: np.ndarray, unmatched: float) -> np.ndarray:
    """The same on a sparse graph: a stand-in for each emitter takes it where it stays single.

    Row i may take stand-in column `columns + i`, column j stand-in row `rows + j`; stand-ins of a pair take each other.
    """
    rows, columns = int(row_P.max()) + 1, int(column_P.max()) + 1
    single_row, single_column = np.arange(rows), np.arange(columns)
    from_row = np.concatenate([row_P, single_row, rows + single_column, rows + column_P])
    to_column = np.concatenate([column_P, columns + single_row, single_column, columns + row_P])
    # Explicit zeros would vanish from the graph, hence the offset, which every full matching pays equally often.
    single_cost, stand_in_cost = np.full(rows + columns, unmatched / 2), np.zeros(len(row_P))
    cost = np.concatenate([distance_P, single_cost, stand_in_cost]) + 1.0
    graph = csr_matrix((cost, (from_row, to_column)), shape=(rows + columns,) * 2)
    row, column = min_weight_full_bipartite_matching(graph)
    taken = np.full(rows, -1)
    taken[row[row < rows]] = column[row < rows]
    return np.flatnonzero(taken[row_P] == column_P)
