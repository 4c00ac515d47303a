//! Where statements end: scripts are split at semicolons outside of quotes and comments.

/// One part of a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part<'a> {
    /// A statement without its semicolon; `complete` says whether there was one.
    Statement { sql: &'a str, complete: bool },
    /// A line that starts with a backslash, without it.
    Command(&'a str),
}

/// Splits a script. Comments between statements belong to the statement behind them.
pub(crate) fn parts(script: &str) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    let mut rest = script;
    loop {
        let blank = skip_blank(rest);
        rest = &rest[blank..];
        if rest.is_empty() {
            return parts;
        }
        if let Some(command) = rest.strip_prefix('\\') {
            let end = command.find('\n').unwrap_or(command.len());
            parts.push(Part::Command(command[..end].trim()));
            rest = &command[end..];
            continue;
        }
        match statement_end(rest) {
            Some(end) => {
                let sql = rest[..end].trim();
                if !sql.is_empty() {
                    parts.push(Part::Statement { sql, complete: true });
                }
                rest = &rest[end + 1..];
            }
            None => {
                parts.push(Part::Statement { sql: rest.trim(), complete: false });
                return parts;
            }
        }
    }
}

/// The bytes of white space and comments at the start.
fn skip_blank(text: &str) -> usize {
    let mut at = 0;
    loop {
        let rest = &text[at..];
        let trimmed = rest.trim_start();
        at += rest.len() - trimmed.len();
        if trimmed.starts_with("--") {
            at += trimmed.find('\n').unwrap_or(trimmed.len());
        } else if let Some(end) = trimmed.strip_prefix("/*").and_then(|comment| comment.find("*/"))
        {
            at += end + 4;
        } else {
            return at;
        }
    }
}

/// The position of the semicolon that ends the first statement.
fn statement_end(text: &str) -> Option<usize> {
    let mut at = 0;
    while let Some(c) = text[at..].chars().next() {
        let rest = &text[at..];
        at += match c {
            ';' => return Some(at),
            // A doubled quote closes and opens again, which comes to the same.
            '\'' | '"' | '`' => rest[1..].find(c)? + 2,
            '-' if rest.starts_with("--") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => rest[2..].find("*/")? + 4,
            '$' => match rest[1..].find('$') {
                // $$ … $$ or $tag$ … $tag$
                Some(length)
                    if rest[1..=length].chars().all(|c| c.is_alphanumeric() || c == '_')
                        && !rest[1..].starts_with(|c: char| c.is_ascii_digit()) =>
                {
                    let tag = &rest[..length + 2];
                    rest[tag.len()..].find(tag)? + 2 * tag.len()
                }
                _ => 1,
            },
            c => c.len_utf8(),
        };
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statements(script: &str) -> Vec<&str> {
        parts(script)
            .into_iter()
            .map(|part| match part {
                Part::Statement { sql, .. } => sql,
                Part::Command(command) => command,
            })
            .collect()
    }

    #[test]
    fn semicolons_that_end_nothing() {
        for script in [
            "SELECT ';'",
            "SELECT 'it''s;'",
            "SELECT \"a;b\" FROM 't;.zarr'",
            "SELECT 1 -- one; two\n + 1",
            "SELECT /* ; */ 1",
            "SELECT /*/ ; */ 1",
            "SELECT $$;$$",
            "SELECT $tag$ ; $$ $tag$",
            "SELECT $1",
            "SELECT 'é;'",
        ] {
            assert_eq!(statements(&format!("{script};")), [script]);
            let open = parts(script);
            assert_eq!(open, [Part::Statement { sql: script, complete: false }]);
        }
    }

    #[test]
    fn several_parts() {
        let script = "-- first\nSELECT 1;;\n\\d t\n /* x */ SELECT 2 ; SELECT 3";
        assert_eq!(statements(script), ["SELECT 1", "d t", "SELECT 2", "SELECT 3"]);
        assert_eq!(statements("  -- nothing\n"), [""; 0]);
    }

    #[test]
    fn quotes_that_stay_open() {
        for script in ["SELECT 'abc;", "SELECT /* ;", "SELECT $$ ;", "SELECT \"x;"] {
            assert_eq!(parts(script), [Part::Statement { sql: script, complete: false }]);
        }
    }
}
