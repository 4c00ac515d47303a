//! The questions of `relations`, and what each may cost.

use crate::Error;

/// A question that relates cells to other cells.
pub(crate) struct Question {
    pub name: &'static str,
    pub sql: &'static str,
    /// Variables of which it needs all chunks: the table, and the name.
    pub needs: &'static [(&'static str, &'static str)],
    /// Upper bound of its seconds over those of a bare loop over these chunks.
    pub goal: f64,
}

/// Questions of these names; all questions if there are no names.
pub(super) fn choose(names: &[String]) -> Result<Vec<&'static Question>, Error> {
    for name in names {
        find(name)?;
    }
    let is_chosen =
        |question: &&Question| names.is_empty() || names.iter().any(|name| name == question.name);
    Ok(QUESTIONS.iter().filter(is_chosen).collect())
}

/// Question of this name.
pub(super) fn find(name: &str) -> Result<&'static Question, Error> {
    QUESTIONS.iter().find(|question| question.name == name).ok_or_else(|| {
        let known: Vec<_> = QUESTIONS.iter().map(|question| question.name).collect();
        format!("no question '{name}'; there are {}", known.join(", ")).into()
    })
}

const T2M: (&str, &str) = ("analysis", "t2m");

static QUESTIONS: [Question; 11] = [
    Question {
        name: "difference",
        sql: "SELECT avg(a.t2m - m.t2m), avg(abs(a.t2m - m.t2m)) \
              FROM analysis a JOIN model m USING (time, latitude, longitude)",
        needs: &[T2M, ("model", "t2m")],
        goal: 1.3,
    },
    Question {
        name: "by_month",
        sql: "SELECT date_part('month', a.time) AS month, avg(a.t2m - m.t2m) \
              FROM analysis a JOIN model m ON a.time = m.time AND a.latitude = m.latitude \
              AND a.longitude = m.longitude GROUP BY month",
        needs: &[T2M, ("model", "t2m")],
        goal: 1.3,
    },
    Question {
        name: "anomaly_join",
        sql: "SELECT avg(abs(a.t2m - c.clim)) FROM analysis a JOIN \
              (SELECT date_part('hour', time) AS hour, latitude, longitude, avg(t2m) AS clim \
              FROM analysis GROUP BY 1, 2, 3) c ON date_part('hour', a.time) = c.hour \
              AND a.latitude = c.latitude AND a.longitude = c.longitude",
        needs: &[T2M],
        goal: 2.6,
    },
    Question {
        name: "anomaly_window",
        sql: "SELECT avg(abs(d)) FROM (SELECT t2m - avg(t2m) OVER \
              (PARTITION BY date_part('hour', time), latitude, longitude) AS d FROM analysis) q",
        needs: &[T2M],
        goal: 2.6,
    },
    Question {
        name: "lag_24",
        sql: "SELECT avg(d) FROM (SELECT t2m - lag(t2m, 24) OVER \
              (PARTITION BY latitude, longitude ORDER BY time) AS d FROM analysis) q",
        needs: &[T2M],
        goal: 1.5,
    },
    Question {
        name: "rolling_168",
        sql: "SELECT avg(m) FROM (SELECT avg(t2m) OVER (PARTITION BY latitude, longitude \
              ORDER BY time ROWS BETWEEN 167 PRECEDING AND CURRENT ROW) AS m FROM analysis) q",
        needs: &[T2M],
        goal: 2.0,
    },
    Question {
        name: "cumulative",
        sql: "SELECT max(s) FROM (SELECT sum(t2m) OVER (PARTITION BY latitude, longitude \
              ORDER BY time) AS s FROM analysis) q",
        needs: &[T2M],
        goal: 2.0,
    },
    Question {
        name: "rmse",
        sql: "SELECT lead, sqrt(avg(power(f.t2m - a.t2m, 2))) FROM forecast f JOIN analysis a \
              ON f.init + f.lead = a.time AND f.latitude = a.latitude \
              AND f.longitude = a.longitude GROUP BY lead",
        needs: &[T2M, ("forecast", "t2m")],
        goal: 1.5,
    },
    Question {
        name: "percentile",
        sql: "SELECT max(p) FROM (SELECT percentile_cont(0.95) WITHIN GROUP (ORDER BY t2m) AS p \
              FROM analysis GROUP BY latitude, longitude) q",
        needs: &[T2M],
        goal: 4.0,
    },
    Question {
        name: "median",
        sql: "SELECT max(m) FROM (SELECT median(t2m) AS m FROM analysis \
              GROUP BY latitude, longitude) q",
        needs: &[T2M],
        goal: 4.0,
    },
    Question {
        name: "corr",
        sql: "SELECT max(c) FROM (SELECT corr(t2m, u10) AS c FROM analysis \
              GROUP BY latitude, longitude) q",
        needs: &[T2M, ("analysis", "u10")],
        goal: 1.6,
    },
];
