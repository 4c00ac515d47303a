"""Questions that every peer answers, on three variables over time, latitude and longitude."""

from dataclasses import dataclass

# A box of 20 by 50 degrees and 24 hours. Latitudes descend from 90, longitudes ascend from 0, by quarters of a
# degree; times are hours.
BOX_TIMES, BOX_LATITUDES, BOX_LONGITUDES = slice(24, 48), slice(320, 401), slice(400, 601)

# A place on both grids, away from the edges of chunks.
PLACE = {"latitude": 47.5, "longitude": 11.0}
PLACE_INDICES = (170, 44)

# A temperature in kelvin that few cells exceed.
HOT = 303.0


@dataclass(frozen=True)
class Question:
    """`sql` has the table as `{table}`; its rows are the answer, in order, and each is a list of numbers."""

    meaning: str
    sql: str


QUESTIONS = {
    "mean": Question(
        "mean, minimum, maximum and count of a variable",
        "SELECT avg(t2m), min(t2m), max(t2m), count(t2m) FROM {table}",
    ),
    "latitude": Question(
        "mean by latitude",
        "SELECT avg(t2m) FROM {table} GROUP BY latitude ORDER BY latitude",
    ),
    "cells": Question(
        "least and greatest mean of a cell of the map",
        "SELECT min(m), max(m) FROM (SELECT avg(t2m) AS m FROM {table} GROUP BY latitude, longitude) AS means",
    ),
    "wind": Question(
        "mean of the wind speed, from two variables",
        "SELECT avg(sqrt(u10 * u10 + v10 * v10)) FROM {table}",
    ),
    "hot": Question(
        "count of the cells above a temperature",
        f"SELECT count(*) FROM {{table}} WHERE t2m > {HOT}",
    ),
    "box": Question(
        "mean over a box of a day",
        "SELECT avg(t2m) FROM {table} WHERE time >= TIMESTAMP '2019-01-02 00:00:00' "
        "AND time < TIMESTAMP '2019-01-03 00:00:00' AND latitude BETWEEN -10 AND 10 "
        "AND longitude BETWEEN 100 AND 150",
    ),
    "series": Question(
        "series of a place",
        f"SELECT t2m FROM {{table}} WHERE latitude = {PLACE['latitude']} "
        f"AND longitude = {PLACE['longitude']} ORDER BY time",
    ),
    "hottest": Question(
        "the ten greatest values",
        "SELECT t2m FROM {table} ORDER BY t2m DESC LIMIT 10",
    ),
}
