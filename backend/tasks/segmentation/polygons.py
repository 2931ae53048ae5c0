"""Exact conversion between polygons and masks: a pixel belongs to a polygon if its center lies inside.

``outlines`` follows the edges of pixels, not their centers as contour tracers do, so that an object of one pixel has an
area, and ``fill`` restores exactly the same mask. Inside is what the editor fills: every point with a nonzero winding
number (the "nonzero" rule of a browser's canvas).
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

_FAR = 1e6  # pixels; coordinates are clipped to this, because what lies farther away only has to stay outside


def fill(points: np.ndarray, height: int, width: int) -> np.ndarray:
    """The pixels inside a polygon, (H, W) bool.

    ``points`` (N, 2) are x, y in pixels of this mask, where (0, 0) is the upper left corner of its first pixel. The
    last point is connected to the first. Points may lie outside of the image.
    """
    x0, y0 = np.clip(points, -_FAR, _FAR).astype(np.float64).T
    x1, y1 = np.roll(x0, -1), np.roll(y0, -1)
    # the rows whose center line an edge crosses; only one end of an edge belongs to it, so that no corner counts twice
    first = np.clip(np.ceil(np.minimum(y0, y1) - 0.5), 0, height).astype(np.int64)
    after = np.clip(np.ceil(np.maximum(y0, y1) - 0.5), 0, height).astype(np.int64)
    crossed = after - first
    edge = np.repeat(np.arange(len(x0)), crossed)
    row = first[edge] + np.arange(len(edge)) - np.repeat(np.cumsum(crossed) - crossed, crossed)
    slope = (x1 - x0)[edge] / (y1 - y0)[edge]
    x = x0[edge] + (row + 0.5 - y0[edge]) * slope
    column = np.clip(np.ceil(x - 0.5), 0, width).astype(np.int64)  # the first whose center is not left of x
    inside = np.zeros((height, width), bool)
    if not len(row):
        return inside
    top, left = int(row.min()), int(column.min())
    rows, columns = int(row.max()) - top + 1, int(column.max()) - left + 1
    # from left to right, the winding number increases at an edge that leads down, and decreases at one that leads up
    turns = np.bincount(
        (row - top) * columns + column - left, np.where(y1 > y0, 1, -1)[edge], minlength=rows * columns
    ).reshape(rows, columns)
    inside[top : top + rows, left : left + columns - 1] = np.cumsum(turns[:, :-1].astype(np.int32), axis=1) != 0
    return inside


def box(x: float, y: float, width: float, height: float, degrees: float) -> np.ndarray:
    """The corners (4, 2) of a box that is rotated clockwise around its upper left corner (x, y). All in pixels."""
    angle = np.deg2rad(degrees)
    along, down = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
    corner = np.array([x, y])
    return np.array([corner, corner + width * along, corner + width * along + height * down, corner + height * down])


def outlines(mask: np.ndarray, tolerance: float = 0.0, smallest_hole: float = 0) -> list[np.ndarray]:
    """One polygon (N, 2) for each connected part of ``mask`` (H, W) bool, the largest part first, in the coordinates of
    ``fill``.

    Parts are connected by the edges of pixels, not by corners. Corners that lie within ``tolerance`` pixels of the line
    without them are removed (Douglas and Peucker 1973). A hole of at least ``smallest_hole`` pixels is joined to the
    outline around it by a cut of zero width, because a polygon in Label Studio is a single line; smaller holes are
    filled.
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
    """The area of a polygon (N, 2); negative if it runs counterclockwise on the screen."""
    x, y = ring.T
    return float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2


def _filled(mask: np.ndarray, smallest_hole: float) -> np.ndarray:
    """``mask`` (H, W) uint8 with small holes filled. Gaps that reach the border are not holes."""
    if smallest_hole <= 1:
        return mask
    _, gaps, stats, _ = cv2.connectedComponentsWithStats(1 - mask, connectivity=8)
    left, top, width, height, pixels = stats.T
    inside = (left > 0) & (top > 0) & (left + width < mask.shape[1]) & (top + height < mask.shape[0])
    small = inside & (pixels < smallest_hole)
    small[0] = False  # the mask itself
    return np.where(small[gaps], np.uint8(1), mask)


def _rings(part: np.ndarray) -> list[np.ndarray]:
    """The closed lines along the edges of a connected part, as corners (N, 2): clockwise around the part,
    counterclockwise around its holes.

    Every edge has the part on its right. Where two pixels touch only at a corner, the line turns right, around its own
    pixel.
    """
    padded = np.pad(part, 1).astype(np.int8)
    # edge (y, x) of `across` lies above pixel (y, x) of the part, edge (y, x) of `along` lies left of it
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
                    next_heading = (heading + turn) % 4
                    closed = corner == start and next_heading == direction
                    if closed or corner in leave[next_heading]:
                        break
                if turn:
                    ring.append(corner)
                if closed:
                    break
                heading = next_heading
                leave[heading].remove(corner)
            rings.append(np.array([divmod(corner, stride)[::-1] for corner in ring], np.float64))
    return rings


def _simplify(ring: np.ndarray, tolerance: float) -> np.ndarray:
    if tolerance <= 0:
        return ring
    return cv2.approxPolyDP(ring.astype(np.float32)[:, None], tolerance, True)[:, 0].astype(np.float64)


def _join(rings: Sequence[np.ndarray]) -> np.ndarray:
    """A single line through an outline and its holes: from the corner nearest to a hole, around the hole, and back."""
    line = rings[0]
    for hole in rings[1:]:
        distances = ((line[:, None] - hole[None]) ** 2).sum(axis=2)
        here, there = np.unravel_index(int(distances.argmin()), distances.shape)
        around = np.concatenate([hole[there:], hole[: there + 1]])
        line = np.concatenate([line[: here + 1], around, line[here:]])
    return line
