//! The named queries.

use crate::Error;

/// A query, with the variables whose bytes it scans.
pub(crate) struct Query {
    pub name: &'static str,
    pub variables: &'static [&'static str],
    pub sql: &'static str,
}

/// Query of this name.
pub(crate) fn find(queries: &'static [Query], name: &str) -> Result<&'static Query, Error> {
    queries.iter().find(|query| query.name == name).ok_or_else(|| {
        let known: Vec<_> = queries.iter().map(|query| query.name).collect();
        format!("no query '{name}'; there are {}", known.join(", ")).into()
    })
}

/// Queries of these names; all queries if there are no names.
pub(crate) fn choose(
    queries: &'static [Query],
    names: &[String],
) -> Result<Vec<&'static Query>, Error> {
    for name in names {
        find(queries, name)?;
    }
    let is_chosen =
        |query: &&Query| names.is_empty() || names.iter().any(|name| name == query.name);
    Ok(queries.iter().filter(is_chosen).collect())
}

/// Queries of `run`.
pub(crate) static QUERIES: [Query; 15] = [
    Query { name: "count", variables: &[], sql: "SELECT count(*) FROM era5" },
    Query { name: "time_range", variables: &[], sql: "SELECT min(time), max(time) FROM era5" },
    Query { name: "head", variables: &[], sql: "SELECT * FROM era5 LIMIT 1000" },
    Query { name: "global_mean", variables: &["t2m"], sql: "SELECT avg(t2m) FROM era5" },
    Query {
        name: "weighted_mean",
        variables: &["t2m"],
        sql: "SELECT sum(t2m * cos(radians(latitude))) / sum(cos(radians(latitude))) FROM era5",
    },
    Query {
        name: "statistics",
        variables: &["t2m", "u10", "v10"],
        sql: "SELECT avg(t2m), min(t2m), max(t2m), stddev(t2m), avg(u10), min(u10), max(u10), \
              stddev(u10), avg(v10), min(v10), max(v10), stddev(v10) FROM era5",
    },
    Query {
        name: "zonal_mean",
        variables: &["t2m"],
        sql: "SELECT latitude, avg(t2m) FROM era5 GROUP BY latitude ORDER BY latitude",
    },
    Query {
        name: "daily_mean",
        variables: &["t2m"],
        sql: "SELECT date_trunc('day', time) AS day, avg(t2m) FROM era5 GROUP BY day ORDER BY day",
    },
    Query {
        name: "time_mean",
        variables: &["t2m"],
        sql: "SELECT max(mean) FROM (SELECT latitude, longitude, avg(t2m) AS mean FROM era5 \
              GROUP BY latitude, longitude)",
    },
    Query {
        name: "wind_speed",
        variables: &["u10", "v10"],
        sql: "SELECT avg(sqrt(u10 * u10 + v10 * v10)) FROM era5",
    },
    Query {
        name: "box",
        variables: &["t2m"],
        sql: "SELECT avg(t2m) FROM era5 WHERE latitude BETWEEN 35 AND 70 AND longitude < 40",
    },
    Query {
        name: "point",
        variables: &["t2m"],
        sql: "SELECT time, t2m FROM era5 WHERE latitude BETWEEN 50 AND 50.5 \
              AND longitude BETWEEN 10 AND 10.5",
    },
    Query {
        name: "series",
        variables: &["t2m"],
        sql: "SELECT time, t2m FROM era5 WHERE latitude BETWEEN 50 AND 50.5 \
              AND longitude BETWEEN 10 AND 10.5 ORDER BY time",
    },
    Query {
        name: "hot_cells",
        variables: &["t2m"],
        sql: "SELECT count(*) FROM era5 WHERE t2m > 303.15",
    },
    Query {
        name: "hottest",
        variables: &["t2m"],
        sql: "SELECT time, latitude, longitude, t2m FROM era5 ORDER BY t2m DESC NULLS LAST LIMIT 10",
    },
];

/// Queries of `aggregate`: over every cell, with few rows as the result.
pub(crate) static AGGREGATES: [Query; 18] = [
    Query {
        name: "global",
        variables: &["t2m"],
        sql: "SELECT avg(t2m), min(t2m), max(t2m), count(t2m) FROM era5",
    },
    Query {
        name: "by_latitude",
        variables: &["t2m"],
        sql: "SELECT latitude, avg(t2m) FROM era5 GROUP BY latitude",
    },
    Query {
        name: "by_time",
        variables: &["t2m"],
        sql: "SELECT time, avg(t2m) FROM era5 GROUP BY time",
    },
    Query {
        name: "by_longitude",
        variables: &["t2m"],
        sql: "SELECT longitude, avg(t2m) FROM era5 GROUP BY longitude",
    },
    Query {
        name: "by_month",
        variables: &["t2m"],
        sql: "SELECT date_trunc('month', time) AS month, avg(t2m) FROM era5 GROUP BY month",
    },
    Query {
        name: "climatology",
        variables: &["t2m"],
        sql: "SELECT max(m) FROM (SELECT date_part('month', time) AS month, latitude, longitude, \
              avg(t2m) AS m FROM era5 GROUP BY month, latitude, longitude)",
    },
    Query {
        name: "boxes",
        variables: &["t2m"],
        sql: "SELECT floor(latitude / 10) AS y, floor(longitude / 10) AS x, avg(t2m) FROM era5 \
              GROUP BY y, x",
    },
    Query {
        name: "wind",
        variables: &["u10", "v10"],
        sql: "SELECT date_trunc('month', time) AS month, avg(sqrt(u10 * u10 + v10 * v10)) \
              FROM era5 GROUP BY month",
    },
    Query {
        name: "weighted",
        variables: &["t2m"],
        sql: "SELECT time, sum(t2m * cos(radians(latitude))) / sum(cos(radians(latitude))) \
              FROM era5 GROUP BY time",
    },
    Query {
        name: "deviation",
        variables: &["t2m"],
        sql: "SELECT latitude, stddev(t2m), min(t2m), max(t2m) FROM era5 GROUP BY latitude",
    },
    Query {
        name: "rows",
        variables: &["t2m"],
        sql: "SELECT time, latitude, longitude, t2m FROM era5 WHERE t2m > 320",
    },
    Query { name: "hot", variables: &["t2m"], sql: "SELECT count(*) FROM era5 WHERE t2m > 300" },
    Query {
        name: "all",
        variables: &["t2m", "u10", "v10"],
        sql: "SELECT avg(t2m), min(t2m), max(t2m), count(t2m), avg(u10), min(u10), max(u10), \
              count(u10), avg(v10), min(v10), max(v10), count(v10) FROM era5",
    },
    Query {
        name: "median",
        variables: &["t2m"],
        sql: "SELECT max(m) FROM (SELECT latitude, longitude, median(t2m) AS m FROM era5 \
              GROUP BY latitude, longitude)",
    },
    Query {
        name: "percentile",
        variables: &["t2m"],
        sql: "SELECT max(m) FROM (SELECT latitude, longitude, percentile_cont(t2m, 0.95) AS m \
              FROM era5 GROUP BY latitude, longitude)",
    },
    Query {
        name: "corr",
        variables: &["t2m", "u10"],
        sql: "SELECT max(m) FROM (SELECT latitude, longitude, corr(t2m, u10) AS m FROM era5 \
              GROUP BY latitude, longitude)",
    },
    Query {
        name: "histogram",
        variables: &["t2m"],
        sql: "SELECT latitude, histogram(t2m, 220, 320, 100) FROM era5 GROUP BY latitude",
    },
    Query {
        name: "values",
        variables: &["t2m"],
        sql: "SELECT floor(t2m) AS t, count(*) FROM era5 GROUP BY t",
    },
];
