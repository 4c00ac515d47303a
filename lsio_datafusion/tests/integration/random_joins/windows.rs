//! Random windows: functions, partitions, orders and frames of all kinds, and what stands around them.

use super::{
    queries::Query,
    relations::{TABLES, condition},
    stores::{Column, Store},
};
use crate::random_queries::{Kind, Random, direction};

/// A random query with windows over the first store, or over its join with the second.
pub(super) fn query(random: &mut Random, stores: &[Store]) -> Query {
    let number = random.below(2) as usize;
    let columns = &stores[number].columns;
    let windows: Vec<String> = (0..1 + random.below(2)).map(|_| window(random, columns)).collect();
    let mut from = TABLES[number].to_owned();
    if random.one_in(8) {
        // Rows that are left out below a window aren't in its frames.
        from = format!("(SELECT * FROM {from} LIMIT 100000) s");
    }
    let filter = match random.below(4) {
        0 => format!(" WHERE {}", condition(random, columns)),
        _ => String::new(),
    };
    let mut list: Vec<String> = columns
        .iter()
        .filter(|_| !random.one_in(3))
        .map(|column| column.sql.clone())
        .filter(|sql| !sql.contains(' '))
        .collect();
    let rows = |sql| Query { sql, ordered: false, approximate: 0 };
    let names: Vec<String> = (0..windows.len()).map(|number| format!("f{number}")).collect();
    list.extend(windows.iter().zip(&names).map(|(window, name)| format!("{window} AS {name}")));
    let inner = format!("SELECT {} FROM {from}{filter}", list.join(", "));
    let last = &names[names.len() - 1];
    let is_number = is_number_window(&windows[names.len() - 1]);
    match random.below(10) {
        0..=1 if is_number => {
            let numbers = ["count(*) AS n", &format!("count({last}) AS m")].join(", ");
            let sql = format!(
                "SELECT {numbers}, avg(abs({last})) AS a, sum({last}) AS s FROM ({inner}) q"
            );
            Query { approximate: 2, ..rows(sql) }
        }
        2..=3 if is_number => {
            let key = &random.choose(columns).sql;
            let inner = format!(
                "SELECT {key} AS k, {} AS f FROM {from}{filter}",
                windows[windows.len() - 1]
            );
            let sql = format!(
                "SELECT k, count(f) AS m, avg(f) AS a, max(f) AS b FROM ({inner}) q GROUP BY k"
            );
            Query { approximate: 2, ..rows(sql) }
        }
        4 => {
            let test = random.choose(&["IS NULL", "IS NOT NULL"]);
            rows(format!("SELECT * FROM ({inner}) q WHERE {last} {test}"))
        }
        5 if is_number => {
            let test = random.choose(&["> 1", "<= 2"]);
            rows(format!("SELECT * FROM ({inner}) q WHERE {last} {test}"))
        }
        6 => rows(format!("SELECT count(*) FROM ({inner}) q")),
        7 => {
            // All that a row has decides on its place.
            let all = list.len();
            let keys: Vec<String> =
                (1..=all).map(|place| format!("{place} {}", direction(random))).collect();
            let sql = format!("{inner} ORDER BY {} LIMIT {}", keys.join(", "), random.below(15));
            Query { ordered: true, ..rows(sql) }
        }
        8 if number == 0 => {
            // A join with what windows gave.
            let same: Vec<&Column> = columns
                .iter()
                .filter(|one| {
                    let other = |two: &Column| {
                        one.dim == two.dim
                            && one.kind == two.kind
                            && one.is_calendar == two.is_calendar
                    };
                    one.dim.is_some()
                        && !one.sql.contains(' ')
                        && stores[1].columns.iter().any(other)
                })
                .collect();
            let Some(key) = same.first() else { return rows(inner) };
            let other = stores[1].columns.iter().find(|two| two.dim == key.dim);
            let other = other.map_or(String::new(), |two| two.sql.clone());
            let inner = format!("SELECT {} AS k, {} AS f FROM {from}{filter}", key.sql, windows[0]);
            rows(format!(
                "SELECT q.k, q.f, r.* FROM ({inner}) q LEFT JOIN {} r ON q.k = r.{other}",
                TABLES[1]
            ))
        }
        _ => rows(inner),
    }
}

/// Whether a window gives numbers: arguments that may be anything else are named.
fn is_number_window(window: &str) -> bool {
    let functions = ["round(", "sum(", "count(", "row_number(", "rank("];
    functions.iter().any(|function| window.starts_with(function))
}

fn window(random: &mut Random, columns: &[Column]) -> String {
    let dims: Vec<&Column> = columns.iter().filter(|column| column.is_axis).collect();
    // Along which dimension.
    let own = random.below(dims.len().max(1) as u64) as usize;
    let mut others: Vec<String> = Vec::new();
    // Whether the place of each row in its partition is known.
    let mut total = dims.get(own).is_some_and(|column| column.is_unique);
    for (number, column) in dims.iter().enumerate() {
        if number == own {
            continue;
        }
        if random.one_in(8) {
            // Not fixed.
            total = false;
            continue;
        }
        total &= column.is_unique;
        others.push(match column.kind {
            Kind::Time if random.one_in(12) => {
                total = false;
                format!("date_part('month', {})", column.sql)
            }
            Kind::Float if random.one_in(12) => format!("{} * 2", column.sql),
            _ => column.sql.clone(),
        });
    }
    if random.one_in(2) {
        others.reverse();
    }
    let ordered = !random.one_in(5);
    if !ordered && random.one_in(2) {
        let column = dims.get(own);
        others.extend(
            column
                .filter(|c| c.kind == Kind::Time)
                .map(|c| format!("date_part('month', {})", c.sql)),
        );
    }
    let mut over = match others.is_empty() {
        true => String::new(),
        false => format!("PARTITION BY {}", others.join(", ")),
    };
    let order = dims.get(own).filter(|_| ordered);
    if let Some(order) = order {
        over.push_str(&format!(" ORDER BY {} {}", order.sql, direction(random)));
    }
    total &= order.is_some();
    if random.one_in(3) || !total {
        over.push_str(&frame(random, order.copied(), total));
    } else if random.one_in(2) {
        over.push_str(&rows_frame(random));
    }
    let call = call(random, columns, total, order.is_some());
    match call.strip_prefix('~') {
        // What rounding may change.
        Some(call) => format!("round({call} OVER ({over}), 9)"),
        None => format!("{call} OVER ({over})"),
    }
}

/// A function with its arguments; behind `~` if it rounds.
fn call(random: &mut Random, columns: &[Column], total: bool, ordered: bool) -> String {
    let numbers: Vec<&Column> =
        columns.iter().filter(|c| matches!(c.kind, Kind::Integer | Kind::Float)).collect();
    let any = random.choose(columns).sql.clone();
    let number = numbers.last().map_or("1".to_owned(), |_| {
        let one = random.choose(&numbers).sql.clone();
        let data = numbers[numbers.len() - 1].sql.clone();
        if random.one_in(3) { one } else { data }
    });
    let argument = match random.below(6) {
        0 => format!("{number} + 1"),
        1 => format!("abs({number})"),
        _ => number.clone(),
    };
    let filter = match random.below(10) {
        0 => format!(" FILTER (WHERE {})", condition(random, columns)),
        _ => String::new(),
    };
    let nulls = match random.below(8) {
        0 => " IGNORE NULLS",
        1 => " RESPECT NULLS",
        _ => "",
    };
    if total && random.one_in(2) {
        // These go by the places of rows.
        return match random.below(9) {
            0 => "row_number()".to_owned(),
            1 => format!("ntile({})", 1 + random.below(3)),
            2..=3 => format!("first_value({any}){nulls}"),
            4 => format!("last_value({any}){nulls}"),
            5 => format!("nth_value({any}, {})", 1 + random.below(3)),
            pick => {
                let function = *random.choose(&["lag", "lead"]);
                let offset = random.between(-1, 3);
                match pick {
                    6 => format!("{function}({any}){nulls}"),
                    7 => format!("{function}({number}, {offset}, 7){nulls}"),
                    _ => format!("{function}({any}, {offset}){nulls}"),
                }
            }
        };
    }
    match random.below(12) {
        0 if ordered => {
            let functions = ["rank()", "dense_rank()", "percent_rank()", "cume_dist()"];
            functions[random.below(4) as usize].to_owned()
        }
        0..=1 => format!("count(*){filter}"),
        2 => format!("count({any}){filter}"),
        3..=4 => format!("sum({argument}){filter}"),
        5..=7 => format!("~avg({argument}){filter}"),
        8 => format!("min({any}){filter}"),
        9 => format!("max({argument}){filter}"),
        10 => {
            let function = random.choose(&["stddev", "var_pop", "stddev_pop", "var_samp"]);
            format!("~{function}({argument}){filter}")
        }
        _ => format!("~covar_pop({argument}, {number}){filter}"),
    }
}

/// A frame whose rows are known: by the places of rows only if these are.
fn frame(random: &mut Random, order: Option<&Column>, total: bool) -> String {
    let Some(order) = order else { return String::new() };
    if total && random.one_in(3) {
        return rows_frame(random);
    }
    let offset = |random: &mut Random| match order.kind {
        Kind::Integer => Some(random.choose(&["1", "2"]).to_string()),
        Kind::Float => Some(random.choose(&["1", "0.5", "2"]).to_string()),
        Kind::Time => {
            let steps = ["INTERVAL '20 days'", "INTERVAL '1 month'", "INTERVAL '50 days'"];
            Some(random.choose(&steps).to_string())
        }
        Kind::Text => None,
    };
    let bound = |random: &mut Random, side: &str| match offset(random) {
        Some(offset) if random.one_in(2) => format!("{offset} {side}"),
        _ if random.one_in(2) => "CURRENT ROW".to_owned(),
        _ => format!("UNBOUNDED {side}"),
    };
    let start = bound(random, "PRECEDING");
    let end = bound(random, "FOLLOWING");
    format!(" RANGE BETWEEN {start} AND {end}")
}

fn rows_frame(random: &mut Random) -> String {
    let unit = if random.one_in(6) { "GROUPS" } else { "ROWS" };
    let frames = [
        "UNBOUNDED PRECEDING AND CURRENT ROW",
        "2 PRECEDING AND CURRENT ROW",
        "1 PRECEDING AND 1 FOLLOWING",
        "CURRENT ROW AND UNBOUNDED FOLLOWING",
        "UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING",
        "UNBOUNDED PRECEDING AND 1 PRECEDING",
        "3 PRECEDING AND 1 PRECEDING",
        "1 FOLLOWING AND 2 FOLLOWING",
        "2 FOLLOWING AND UNBOUNDED FOLLOWING",
        "CURRENT ROW AND CURRENT ROW",
    ];
    format!(" {unit} BETWEEN {}", random.choose(&frames))
}
