//! The named queries.

/// A query, and the variables whose bytes it goes through.
pub(crate) struct Query {
    pub name: &'static str,
    pub variables: &'static [&'static str],
    pub sql: &'static str,
}

pub(crate) const QUERIES: [Query; 13] = [
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
