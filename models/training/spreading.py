"""Labels that spread over the neighbor graph of features: what images that nobody has labeled say of the classes.

Zhou, Bousquet, Lal, Weston and Schölkopf, Learning with Local and Global Consistency (NeurIPS 2003), "LGC" below; the
graph as in Iscen, Tolias, Avrithis and Chum, Label Propagation for Deep Semi-supervised Learning (CVPR 2019).

Axis letters: N rows of the graph, D directions, C classes, Q columns that spread at once.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

NEIGHBORS = 10
SHARPNESS = 3  # the power of a similarity that is the weight of an edge (Iscen et al., equation 9)
ALPHA = 0.8  # how much of what a row is told comes from its neighbors
STEPS = 20  # 0.8^20 is about 0.01
_LEAST = 1e-12


def neighbor_graph(points: Tensor) -> Tensor:
    """S = D^(-1/2) W D^(-1/2) of LGC, sparse (N, N), for points (N, D): W joins each row to the `NEIGHBORS` of the
    highest cosine similarity, in both directions, and D has the sums of its rows."""
    count = len(points)
    unit = functional.normalize(points, dim=1)
    similar = unit @ unit.T
    similar.fill_diagonal_(-1.0)
    nearest = similar.topk(min(NEIGHBORS, count - 1), dim=1)
    weight = nearest.values.clamp(min=0.0).pow(SHARPNESS).flatten() / 2
    start = torch.arange(count, device=points.device).repeat_interleave(nearest.indices.shape[1])
    end = nearest.indices.flatten()
    places = torch.stack([torch.cat([start, end]), torch.cat([end, start])])
    joined = torch.sparse_coo_tensor(places, weight.repeat(2), (count, count), check_invariants=True).coalesce()
    row, column = joined.indices()
    degree = torch.zeros(count, device=points.device).index_add_(0, row, joined.values()).clamp(min=_LEAST)
    scaled = joined.values() / (degree[row] * degree[column]).sqrt()
    return torch.sparse_coo_tensor(joined.indices(), scaled, (count, count), check_invariants=True, is_coalesced=True)


def spread(graph: Tensor, seeds: Tensor) -> Tensor:
    """F (N, Q) after `STEPS` of F <- α S F + (1 - α) Y from F = Y (LGC, step 3), for the graph S (N, N), Y (N, Q)."""
    found = seeds
    for _ in range(STEPS):
        found = ALPHA * (graph @ found) + (1 - ALPHA) * seeds
    return found
