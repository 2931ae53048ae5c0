"""Polygons ↔ masks, exactly: a pixel belongs to a polygon when its middle lies inside.

``outlines`` goes along the edges of pixels, not through their middles as contour tracers do, so that a thing of one
pixel has an area and ``fill`` gives back the very mask. What lies inside is what the editor paints: where the outline
winds around (the "nonzero" rule of a browser's canvas).
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

_FAR = 1e6  # pixels; what lies farther out of the image only has to stay outside


def fill(points: np.ndarray, height: int, width: int) -> np.ndarray:
    """The pixels inside a polygon, (H, W) bool.

    ``points`` (N, 2) are x, y in pixels of this mask, with (0, 0) the upper left corner of its first pixel; the last
    is joined to the first. They may lie outside of the image.
    """
    x0, y0 = np.clip(points, -_FAR, _FAR).astype(np.float64).T
    x1, y1 = np.roll(x0, -1), np.roll(y0, -1)
    # rows whose middle an edge crosses; the lower end counts and the upper does not, so that no corner counts twice
    first = np.clip(np.ceil(np.minimum(y0, y1) - 0.5), 0, height).astype(np.int64)
    after = np.clip(np.ceil(np.maximum(y0, y1) - 0.5), 0, height).astype(np.int64)
    crossed = after - first
    edge = np.repeat(np.arange(len(x0)), crossed)
    row = first[edge] + np.arange(len(edge)) - np.repeat(np.cumsum(crossed) - crossed, crossed)
    slope = (x1 - x0)[edge] / (y1 - y0)[edge]
    x = x0[edge] + (row + 0.5 - y0[edge]) * slope
    column = np.clip(np.ceil(x - 0.5), 0, width).astype(np.int64)  # the first whose middle is not left of x
    inside = np.zeros((height, width), bool)
    if not len(row):
        return inside
    top, left = int(row.min()), int(column.min())
    high, wide = int(row.max()) - top + 1, int(column.max()) - left + 1
    # going right over an edge that leads down the outline winds once more, over one that leads up once less
    turns = np.bincount(
        (row - top) * wide + column - left, np.where(y1 > y0, 1, -1)[edge], minlength=high * wide
    ).reshape(high, wide)
    inside[top : top + high, left : left + wide - 1] = np.cumsum(turns[:, :-1].astype(np.int32), axis=1) != 0
    return inside


def box(x: float, y: float, width: float, height: float, degrees: float) -> np.ndarray:
    """The corners (4, 2) of a box that was turned clockwise around its upper left corner (x, y); all in pixels."""
    angle = np.deg2rad(degrees)
    along, down = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
    corner = np.array([x, y])
    return np.array([corner, corner + width * along, corner + width * along + height * down, corner + height * down])


def outlines(mask: np.ndarray, tolerance: float = 0.0, smallest_hole: float = 0) -> list[np.ndarray]:
    """One polygon (N, 2) for each connected part of ``mask`` (H, W) bool, the largest first, as ``fill`` reads them.

    Parts are connected over the edges of pixels, not over corners. Corners that lie within ``tolerance`` pixels of the
    line without them are left out (Douglas and Peucker 1973). A hole of ``smallest_hole`` or more pixels is joined to
    the outline around it by a cut of no width, because a polygon of Label Studio is one line; smaller ones are filled.
    """
    mask = _filled(np.ascontiguousarray(mask, np.uint8), smallest_hole)
    number, parts, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=4)
    order = sorted(range(1, number), key=lambda part: (-int(stats[part, cv2.CC_STAT_AREA]), part))
    polygons = []
    for part in order:
        left, top, width, height = (int(value) for value in stats[part, :4])
        rings = _rings(parts[top : top + height, left : left + width] == part)
        outer = [ring for ring in rings if area(ring) > 0]  # one, because the part is connected
        holes = [ring for ring in rings if area(ring) < 0]
        simple = [_simplify(ring, tolerance) for ring in holes]
        line = _simplify(outer[0], tolerance)
        polygon = _join([line if len(line) >= 3 else outer[0], *(ring for ring in simple if len(ring) >= 3)])
        polygons.append(polygon + np.array([left, top]))
    return polygons


def area(ring: np.ndarray) -> float:
    """The area of a polygon (N, 2); negative where it goes anticlockwise on the screen."""
    x, y = ring.T
    return float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2


def _filled(mask: np.ndarray, smallest_hole: float) -> np.ndarray:
    """``mask`` (H, W) uint8 with its small holes filled; what reaches the border is no hole."""
    if smallest_hole <= 1:
        return mask
    _, gaps, stats, _ = cv2.connectedComponentsWithStats(1 - mask, connectivity=8)
    left, top, width, height, pixels = stats.T
    inside = (left > 0) & (top > 0) & (left + width < mask.shape[1]) & (top + height < mask.shape[0])
    small = inside & (pixels < smallest_hole)
    small[0] = False  # the mask itself
    return np.where(small[gaps], np.uint8(1), mask)


def _rings(part: np.ndarray) -> list[np.ndarray]:
    """The closed lines along a connected part's edges, in corners (N, 2): clockwise outside, anticlockwise at holes.

    Every edge has the part on its right. Where two pixels touch by a corner only, the line turns right, around its
    own pixel.
    """
    padded = np.pad(part, 1).astype(np.int8)
    # in coordinates of the part: the edge (y, x) of `across` lies above pixel (y, x), that of `along` left of it
    across, along = np.diff(padded[:, 1:-1], axis=0), np.diff(padded[1:-1], axis=1)
    stride = part.shape[1] + 1  # corners are numbered row by row
    right = np.argwhere(across == 1) @ [stride, 1]
    left = np.argwhere(across == -1) @ [stride, 1] + 1
    up = np.argwhere(along == 1) @ [stride, 1] + stride
    down = np.argwhere(along == -1) @ [stride, 1]
    leave: tuple[set[int], ...] = tuple(set(corners.tolist()) for corners in (right, down, left, up))
    steps = (1, stride, -1, -stride)

    rings = []
    for direction, corners in enumerate(leave):
        while corners:
            start = corner = corners.pop()
            heading, ring = direction, []
            while True:
                corner += steps[heading]
                for turn in (1, 0, 3):  # right, straight on, left
                    way = (heading + turn) % 4
                    closed = corner == start and way == direction
                    if closed or corner in leave[way]:
                        break
                if turn:
                    ring.append(corner)
                if closed:
                    break
                heading = way
                leave[heading].remove(corner)
            rings.append(np.array([divmod(corner, stride)[::-1] for corner in ring], np.float64))
    return rings


def _simplify(ring: np.ndarray, tolerance: float) -> np.ndarray:
    if tolerance <= 0:
        return ring
    return cv2.approxPolyDP(ring.astype(np.float32)[:, None], tolerance, True)[:, 0].astype(np.float64)


def _join(rings: Sequence[np.ndarray]) -> np.ndarray:
    """One line through an outline and its holes: from the nearest corner to the hole, around it, and back."""
    line = rings[0]
    for hole in rings[1:]:
        distances = ((line[:, None] - hole[None]) ** 2).sum(axis=2)
        here, there = np.unravel_index(int(distances.argmin()), distances.shape)
        around = np.concatenate([hole[there:], hole[: there + 1]])
        line = np.concatenate([line[: here + 1], around, line[here:]])
    return line
