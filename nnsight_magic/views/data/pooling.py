"""A large plane as a small one that still shows every spike: the least and the greatest value of
each block. Nothing is copied whole; rows are taken a few million values at a time."""

from __future__ import annotations

from typing import Any

import numpy as np

CHUNK = 1 << 22  # values converted at a time
# Of a plane with more values than this some rows and columns of each block are left out.
LOOKED_AT = 1 << 27
# Blocks up to this wide are reduced one column after another, the others each on its own.
NARROW = 16


def numbers(tensor: Any) -> np.ndarray:
    """A real torch tensor's values as an array that numpy computes with: float32, float64, an int.

    Views memory where it can, copies and converts where it must.
    """
    import torch

    tensor = tensor.detach().resolve_neg()
    if tensor.dtype == torch.bool:
        tensor = tensor.to(torch.uint8)
    elif tensor.dtype.is_floating_point and tensor.dtype not in (torch.float32, torch.float64):
        tensor = tensor.to(torch.float32)
    return tensor.cpu().numpy()


def pool(plane: Any, rows: int, columns: int) -> tuple[np.ndarray, np.ndarray, bool]:
    """The least and the greatest of each block of `rows` × `columns` values.

    `plane` is a real torch tensor of rank 2 on any device. Blocks at the lower and right edge may
    be smaller. NaN in a block makes the block NaN. Returns `(low, high, sampled)`, where
    `sampled` tells that values were left out for their sheer number.
    """
    if rows == columns == 1:
        values = numbers(plane)
        return values, values, False
    step = max(1, min(rows, plane.numel() // LOOKED_AT))
    stride = max(1, min(columns, plane.numel() // step // LOOKED_AT))
    if stride > 1:
        plane, columns = plane[:, ::stride], -(-columns // stride)
    at_once = rows if step > 1 else rows * max(1, CHUNK // max(1, rows * plane.shape[1]))
    lows, highs = [], []
    for top in range(0, plane.shape[0], at_once):
        low, high = _down(plane[top : top + at_once : step], rows)
        lows.append(_across(low, columns, np.minimum))
        highs.append(_across(high, columns, np.maximum))
    return np.concatenate(lows), np.concatenate(highs), step * stride > 1


def _down(part: Any, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Every `rows` rows as one, on the device where the values are: `(blocks, columns)` twice."""
    if part.is_cuda and part.shape[0] > 1:
        blocks = part.detach().float().split(rows)
        low, high = ([getattr(b, name)(0) for b in blocks] for name in ("amin", "amax"))
        import torch

        return numbers(torch.stack(low)), numbers(torch.stack(high))
    values = numbers(part)
    if rows == 1:
        return values, values
    whole = len(values) // rows * rows
    blocks = values[:whole].reshape(-1, rows, values.shape[1])
    rest = values[whole:]
    low, high = blocks.min(axis=1), blocks.max(axis=1)
    if len(rest):
        low = np.concatenate([low, rest.min(axis=0)[None]])
        high = np.concatenate([high, rest.max(axis=0)[None]])
    return low, high


def _across(values: np.ndarray, columns: int, reduce: np.ufunc) -> np.ndarray:
    """Every `columns` columns as one."""
    if columns > NARROW:
        return reduce.reduceat(values, np.arange(0, values.shape[1], columns), axis=1)
    blocks = values[:, ::columns].copy()
    for k in range(1, columns):
        more = values[:, k::columns]
        part = blocks[:, : more.shape[1]]
        reduce(part, more, out=part)
    return blocks
