"""A loop over chunks, as a careful user writes it: as many threads as asked for, float64 sums, no dask.

`read(variable, slices)` gives an array of float32. What is kept of a chunk is added up at the end.
"""

import heapq
import itertools
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from questions import BOX_LATITUDES, BOX_LONGITUDES, BOX_TIMES, HOT, PLACE_INDICES


def answer(question, read, shape, chunks, threads):
    """The rows of the answer to the question of this name."""
    boxes = [
        tuple(slice(i, min(i + c, n)) for i, c, n in zip(start, chunks, shape))
        for start in itertools.product(*(range(0, n, c) for n, c in zip(shape, chunks)))
    ]
    with ThreadPoolExecutor(threads) as pool:
        return _KERNELS[question](read, shape, boxes, pool)


def _mean(read, shape, boxes, pool):
    def part(box):
        values = read("t2m", box)
        return values.sum(dtype=np.float64), values.min(), values.max(), values.size

    sums, least, greatest, counts = zip(*pool.map(part, boxes))
    return [[sum(sums) / sum(counts), min(least), max(greatest), sum(counts)]]


def _latitude(read, shape, boxes, pool):
    sums = np.zeros(shape[1])
    part = lambda box: (box[1], read("t2m", box).sum(axis=(0, 2), dtype=np.float64))
    for latitudes, added in pool.map(part, boxes):
        sums[latitudes] += added
    # The table's order is by ascending latitude, the grid's by descending.
    return [[mean] for mean in (sums / (shape[0] * shape[2]))[::-1]]


def _cells(read, shape, boxes, pool):
    sums = np.zeros(shape[1:])
    part = lambda box: (box[1:], read("t2m", box).sum(axis=0, dtype=np.float64))
    for cells, added in pool.map(part, boxes):
        sums[cells] += added
    means = sums / shape[0]
    return [[means.min(), means.max()]]


def _wind(read, shape, boxes, pool):
    def part(box):
        u, v = read("u10", box), read("v10", box)
        return np.sqrt(u * u + v * v).sum(dtype=np.float64)

    return [[sum(pool.map(part, boxes)) / np.prod(shape)]]


def _hot(read, shape, boxes, pool):
    part = lambda box: np.count_nonzero(read("t2m", box) > np.float32(HOT))
    return [[sum(pool.map(part, boxes))]]


def _box(read, shape, boxes, pool):
    return [[read("t2m", (BOX_TIMES, BOX_LATITUDES, BOX_LONGITUDES)).mean(dtype=np.float64)]]


def _series(read, shape, boxes, pool):
    latitude, longitude = (slice(i, i + 1) for i in PLACE_INDICES)
    return [[value] for value in read("t2m", (slice(0, shape[0]), latitude, longitude)).ravel()]


def _hottest(read, shape, boxes, pool):
    part = lambda box: np.partition(read("t2m", box).ravel(), -10)[-10:]
    return [[value] for value in heapq.nlargest(10, itertools.chain(*pool.map(part, boxes)))]


_KERNELS = {
    "mean": _mean,
    "latitude": _latitude,
    "cells": _cells,
    "wind": _wind,
    "hot": _hot,
    "box": _box,
    "series": _series,
    "hottest": _hottest,
}
