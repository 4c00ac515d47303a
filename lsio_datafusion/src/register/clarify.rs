//! Errors of DataFusion's planner about names, with suggestions.

use std::fmt::Write as _;

use datafusion::{
    common::{Column, SchemaError, TableReference},
    error::DataFusionError,
    execution::SessionState,
    sql::sqlparser::parser::ParserError,
};
use lsio_core::{Location, similar::closest, uring::Engine};

/// Names that a message lists at most: a store may have hundreds.
const LISTED: usize = 30;

/// First words of statements.
const STATEMENTS: [&str; 16] = [
    "SELECT",
    "FROM",
    "WITH",
    "CREATE",
    "DROP",
    "INSERT",
    "COPY",
    "EXPLAIN",
    "DESCRIBE",
    "SHOW",
    "SET",
    "RESET",
    "VALUES",
    "SUMMARIZE",
    "UPDATE",
    "DELETE",
];

/// Functions of numpy and xarray, each with ours.
const OTHERS: [(&str, &str); 12] = [
    ("nanmax", "max"),
    ("nanmean", "avg"),
    ("nanmedian", "median"),
    ("nanmin", "min"),
    ("nanstd", "stddev_pop"),
    ("nansum", "sum"),
    ("nanvar", "var_pop"),
    ("percentile", "percentile_cont"),
    ("quantile", "percentile_cont"),
    ("resample", "date_bin"),
    ("std", "stddev"),
    ("var", "var_samp"),
];

/// Words after SHOW that aren't settings.
const SHOWN: [&str; 4] = ["ALL", "TABLES", "COLUMNS", "FUNCTIONS"];

/// DuckDB's features that DataFusion lacks: the word by which a statement shows it, and what to write.
const ELSEWHERE: [(&str, &str); 11] = [
    (
        "UNPIVOT",
        "UNPIVOT isn't supported: write SELECT 'a' AS name, a AS value … UNION ALL SELECT 'b', b …",
    ),
    (
        "PIVOT",
        "PIVOT isn't supported: write an aggregate for each column, sum(v) FILTER (WHERE k = 1) AS k1",
    ),
    ("USING SAMPLE", "USING SAMPLE isn't supported: write WHERE random() < 0.1"),
    ("TABLESAMPLE", "TABLESAMPLE isn't supported: write WHERE random() < 0.1"),
    ("GLOB '", "GLOB isn't supported: write LIKE 'a%', or ~ with a regular expression"),
    ("COLUMNS(", "COLUMNS(…) isn't supported: write the names of the columns, or * EXCLUDE (…)"),
    ("* LIKE", "* LIKE isn't supported: write the names of the columns, or * EXCLUDE (…)"),
    ("* RENAME", "* RENAME isn't supported: write * EXCLUDE (a), a AS b"),
    (
        "ASOF",
        "ASOF JOIN isn't supported: write a, LATERAL (SELECT … FROM b WHERE b.time <= a.time ORDER BY b.time DESC LIMIT 1)",
    ),
    ("(SUMMARIZE", "SUMMARIZE is a statement, not a table: run it alone"),
    (
        "READ_ZARR(",
        "there is no read_zarr in SQL: a store is a table by its path, FROM 'store.zarr'",
    ),
];

/// Words before a path.
const BEFORE_PATHS: [&str; 6] = ["FROM", "JOIN", "TO", "DESCRIBE", "LOCATION", "SUMMARIZE"];

/// Rewrites a planning error to say what to write instead. DataFusion 55.2 names tables by catalog and
/// schema, lists all columns of all tables, and suggests for an unknown function the one with the least
/// distance, however large. Errors of other kinds stay as they are.
#[must_use]
pub fn clarify(error: DataFusionError, sql: &str, state: &SessionState) -> DataFusionError {
    let clear = match error.find_root() {
        DataFusionError::NotImplemented(text) => {
            Some(elsewhere(sql).unwrap_or_else(|| without_syntax_tree(text)))
        }
        DataFusionError::Plan(text) => {
            named(text, sql, state).or_else(|| no_setting(&error, sql, state))
        }
        DataFusionError::SchemaError(schema, _) => match schema.as_ref() {
            SchemaError::FieldNotFound { field, valid_fields } => {
                Some(no_column(field, valid_fields, sql))
            }
            SchemaError::AmbiguousReference { field } => Some(ambiguous(field, sql)),
            _ => None,
        },
        DataFusionError::SQL(error, _) => match error.as_ref() {
            ParserError::ParserError(text) | ParserError::TokenizerError(text) => no_sql(text, sql),
            ParserError::RecursionLimitExceeded => None,
        },
        // A number's parse error may have a context.
        _ => no_setting(&error, sql, state),
    };
    clear.map_or(error, DataFusionError::Plan)
}

/// What to write instead of DuckDB's words.
fn elsewhere(sql: &str) -> Option<String> {
    let upper = sql.split_whitespace().collect::<Vec<_>>().join(" ").to_ascii_uppercase();
    if let Some((_, limit)) = upper.rsplit_once("LIMIT ")
        && limit.trim_end_matches(';').ends_with('%')
    {
        return Some(
            "LIMIT takes a number of rows, not a share: write WHERE random() < 0.1".to_owned(),
        );
    }
    if upper.starts_with("COPY ") && upper.contains('(') && !upper.contains(" OPTIONS ") {
        return Some(
            "this is no COPY: write COPY (SELECT …) TO 'file.csv' STORED AS CSV OPTIONS (overwrite true)"
                .to_owned(),
        );
    }
    let known = ELSEWHERE.iter().find(|(word, _)| upper.contains(word));
    known.map(|(_, advice)| (*advice).to_owned())
}

/// Message of DataFusion 55.2 without the syntax tree, which is longer than any statement.
fn without_syntax_tree(text: &str) -> String {
    let text = text.split(DataFusionError::BACK_TRACE_SEP).next().unwrap_or(text);
    let end = text.find([':', '{', '(']).unwrap_or(text.len());
    let is_tree = text.contains("Ident {") || text.contains("span: Span");
    let text = if is_tree { text[..end].trim_end() } else { text };
    format!("not supported: {text}")
}

/// Suggestion for a name in an error that is plain text.
fn named(text: &str, sql: &str, state: &SessionState) -> Option<String> {
    let text = text.split(DataFusionError::BACK_TRACE_SEP).next().unwrap_or(text).trim();
    let between = |start: &str, end: &str| text.strip_prefix(start)?.strip_suffix(end);
    if (text.contains("not found") || text.starts_with("Invalid function"))
        && let Some(advice) = elsewhere(sql)
    {
        return Some(advice);
    }
    if let Some(name) = between("table '", "' not found") {
        return Some(no_table(name, sql, state));
    }
    if let Some(name) = between("table function '", "' not found")
        .or_else(|| between("Table function '", "' not found"))
    {
        let known = state.table_functions().keys().map(String::as_str);
        return Some(no_function("table function", name, known));
    }
    if let Some(reason) = refused(text) {
        return Some(reason);
    }
    let (name, _) = text.strip_prefix("Invalid function '")?.split_once('\'')?;
    let known = state.scalar_functions().keys().chain(state.aggregate_functions().keys());
    let known = known.chain(state.window_functions().keys()).map(String::as_str);
    Some(no_function("function", name, known))
}

/// Message of our own function about its arguments. DataFusion 55.2 wraps it in a failed coercion with
/// UserDefined as a candidate.
fn refused(text: &str) -> Option<String> {
    let (_, reason) = text.split_once("user-defined coercion failed with: ")?;
    let (reason, _) = reason.split_once(". No function matches the given name")?;
    let kinds = ["Error during planning: ", "Execution error: "];
    let plain = kinds.iter().find_map(|kind| reason.strip_prefix(kind));
    Some(plain.unwrap_or(reason).to_owned())
}

fn no_function<'a>(what: &str, name: &str, known: impl Iterator<Item = &'a str>) -> String {
    // A hash map has no stable order.
    let mut known: Vec<&str> = known.collect();
    known.sort_unstable();
    let lower = name.to_ascii_lowercase();
    let other = OTHERS.iter().find(|(other, _)| *other == lower).map(|(_, ours)| *ours);
    let other = other.filter(|other| known.contains(other));
    let meant = meant(other.or_else(|| closest(name, known)));
    format!("there is no {what} '{name}'{meant} (SHOW FUNCTIONS lists those that there are)")
}

fn ambiguous(field: &Column, sql: &str) -> String {
    let name = &field.name;
    let is_natural = sql.split_whitespace().any(|word| word.eq_ignore_ascii_case("natural"));
    let using = if is_natural {
        format!("; JOIN … USING ({name}) in place of NATURAL JOIN makes them one")
    } else {
        String::new()
    };
    format!(
        "several tables of the query have a column '{name}': write it with its table's name{using}"
    )
}

fn no_table(full: &str, sql: &str, state: &SessionState) -> String {
    let catalog = &state.config_options().catalog;
    let name = full.strip_prefix(&format!("{}.", catalog.default_catalog)).unwrap_or(full);
    let name = name.strip_prefix(&format!("{}.", catalog.default_schema)).unwrap_or(name);
    let mut known = state
        .catalog_list()
        .catalog(&catalog.default_catalog)
        .and_then(|tables| tables.schema(&catalog.default_schema))
        .map_or_else(Vec::new, |schema| schema.table_names());
    known.sort_unstable();
    if let Some(table) = closest(name, &known) {
        return format!("there is no table '{name}'; did you mean '{table}'?");
    }
    // Without quotes, the dot of a file's name separates schema and table.
    let path = || std::path::Path::new(name).exists();
    if sql.contains(&format!("'{name}'")) && std::path::Path::new(name).is_dir() {
        return format!(
            "'{name}' is a directory without files of one format that is known: name a store or a file in it"
        );
    }
    if name.contains('.') && path() {
        return format!("there is no table {name}; a path goes in quotes: '{name}'");
    }
    // No engine is started for a look at names.
    let place = Location::parse_with(name, Engine::ObjectStore).ok();
    if let Some(similar) = place.and_then(|place| place.similar()) {
        return format!(
            "there is no table '{name}', nor does a file '{name}' exist; did you mean '{similar}'?"
        );
    }
    if name.contains(['.', '/']) {
        return format!("'{name}' does not exist, as a table, a file or a store");
    }
    if known.is_empty() {
        return format!(
            "there is no table '{name}'; a store is a table by its path: FROM 'store.zarr'"
        );
    }
    format!("there is no table '{name}'; there are: {}", list(&known))
}

fn no_column(field: &Column, valid: &[Column], sql: &str) -> String {
    let name = &field.name;
    let mut known: Vec<&str> = Vec::new();
    for column in valid {
        if !known.contains(&column.name.as_str()) {
            known.push(&column.name);
        }
    }
    let mut text = match &field.relation {
        Some(relation) => {
            let relations: Vec<&TableReference> =
                valid.iter().filter_map(|column| column.relation.as_ref()).collect();
            if !relations.is_empty() && !relations.contains(&relation) {
                let mut names: Vec<String> =
                    relations.iter().map(|relation| relation.to_string()).collect();
                names.dedup();
                return format!(
                    "there is no table '{relation}' in this query for the column '{name}'; there are: {}",
                    list(&names)
                );
            }
            format!("there is no column '{name}' in '{relation}'")
        }
        // Names the table, if there is only one.
        None => match valid {
            [first, rest @ ..] if rest.iter().all(|column| column.relation == first.relation) => {
                match &first.relation {
                    Some(relation) => format!("there is no column '{name}' in '{relation}'"),
                    None => format!("there is no column '{name}'"),
                }
            }
            _ => format!("there is no column '{name}'"),
        },
    };
    if known.is_empty() {
        text.push_str(" here, where no table is read");
        text.push_str(&number(name));
        return text;
    }
    if field.relation.is_none() && sql.contains(&format!("\"{name}\"")) {
        let _ = write!(text, "; a text goes in single quotes: '{name}'");
    }
    text.push_str(&meant(closest(name, known.iter().copied())));
    text.push_str(&number(name));
    let _ = write!(text, " (the columns are: {})", list(&known));
    text
}

/// Message of a failed SET, SHOW or RESET. DataFusion 55.2 names the unknown part of the key, or the value
/// without the key.
fn no_setting(error: &DataFusionError, sql: &str, state: &SessionState) -> Option<String> {
    let (verb, rest) = sql.trim().split_once(char::is_whitespace)?;
    if !["SET", "SHOW", "RESET"].iter().any(|known| known.eq_ignore_ascii_case(verb)) {
        return None;
    }
    let (key, value) = match rest.split_once('=') {
        Some((key, value)) => (key.trim(), Some(value.trim())),
        None => (rest.trim(), None),
    };
    // Errors of our own settings are clear already.
    let said = error.find_root().strip_backtrace();
    let is_clear =
        said.contains("there is no setting") || said.contains(&format!("{key} can't be"));
    if key.contains(char::is_whitespace) || is_clear {
        return None;
    }
    let mut known: Vec<String> =
        state.config_options().entries().into_iter().map(|entry| entry.key).collect();
    known.sort_unstable();
    if known.iter().any(|name| name == key) {
        let reason = match error.find_root() {
            DataFusionError::External(source) => source.to_string(),
            root => root.strip_backtrace(),
        };
        return value.map(|value| format!("{key} can't be {value}: {reason}"));
    }
    if verb.eq_ignore_ascii_case("SHOW") {
        known.extend(SHOWN.map(str::to_owned));
    }
    let meant = meant(closest(key, &known).map(String::as_str));
    Some(format!("there is no setting '{key}'{meant} (SHOW ALL lists those that there are)"))
}

/// Suggestion for a name that begins with a digit.
fn number(name: &str) -> String {
    let letters = name.trim_start_matches(|first: char| first.is_ascii_digit());
    match name.len() - letters.len() {
        0 => String::new(),
        digits => format!("; a number with an alias is {} AS {letters}", &name[..digits]),
    }
}

/// Suggestion for text that isn't SQL.
fn no_sql(text: &str, sql: &str) -> Option<String> {
    let mut words = sql.split_whitespace();
    let first = words.next().unwrap_or_default();
    if text.contains("Expected: an SQL statement")
        && let Some(statement) = closest(first, STATEMENTS)
        && !statement.eq_ignore_ascii_case(first)
    {
        return Some(format!("'{first}' begins no statement; did you mean {statement}?"));
    }
    let mut before = first;
    for word in words {
        let word = word.trim_end_matches([';', ')', ',']);
        let is_path =
            word.starts_with(['/', '~', '.']) || word.contains("://") || word.contains('/');
        if is_path
            && !word.contains(['\'', '"', '('])
            && BEFORE_PATHS.iter().any(|path| path.eq_ignore_ascii_case(before))
        {
            return Some(format!("a path goes in single quotes: '{word}'"));
        }
        before = word;
    }
    elsewhere(sql)
}

fn meant(name: Option<&str>) -> String {
    name.map_or_else(String::new, |name| format!("; did you mean '{name}'?"))
}

fn list<T: AsRef<str>>(names: &[T]) -> String {
    let listed: Vec<&str> = names.iter().take(LISTED).map(AsRef::as_ref).collect();
    let more = match names.len().checked_sub(LISTED) {
        None | Some(0) => String::new(),
        Some(more) => format!(" and {more} more"),
    };
    format!("{}{more}", listed.join(", "))
}
