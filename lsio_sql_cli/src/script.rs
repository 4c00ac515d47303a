//! Splitting of scripts at semicolons outside of quotes and comments.

/// Part of a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ScriptPart<'a> {
    /// Statement without its semicolon; `complete` if there was one.
    Statement { sql: &'a str, complete: bool },
    /// Line that starts with a backslash, or with a dot and a letter, as no SQL does.
    Command(&'a str),
}

/// Unfinished element at the end of a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unfinished {
    /// Statement without a semicolon.
    Statement,
    /// Quote of this kind without an end.
    Quote(char),
    /// Comment without an end.
    Comment,
}

/// Splits a script. Comments between statements belong to the following statement.
pub(crate) fn parts(script: &str) -> Vec<ScriptPart<'_>> {
    let mut parts = Vec::new();
    let mut rest = script;
    loop {
        let blank = skip_blank(rest);
        rest = &rest[blank..];
        if rest.is_empty() {
            return parts;
        }
        if is_command(rest) {
            let end = rest.find('\n').unwrap_or(rest.len());
            parts.push(ScriptPart::Command(rest[..end].trim()));
            rest = &rest[end..];
            continue;
        }
        match statement_end(rest) {
            Ok(end) => {
                let sql = rest[..end].trim();
                if !sql.is_empty() {
                    parts.push(ScriptPart::Statement { sql, complete: true });
                }
                rest = &rest[end + 1..];
            }
            Err(_) => {
                parts.push(ScriptPart::Statement { sql: rest.trim(), complete: false });
                return parts;
            }
        }
    }
}

/// Finds what an unfinished statement leaves open.
pub(crate) fn open(statement: &str) -> Unfinished {
    statement_end(statement).err().unwrap_or(Unfinished::Statement)
}

/// Whether a text starts with a command.
pub(crate) fn is_command(text: &str) -> bool {
    let dot = || text.strip_prefix('.').is_some_and(|t| t.starts_with(|c: char| c.is_alphabetic()));
    text.starts_with('\\') || dot()
}

/// Bytes of white space and comments at the start.
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

/// Position of the semicolon that ends the first statement.
fn statement_end(text: &str) -> Result<usize, Unfinished> {
    let mut at = 0;
    while let Some(c) = text[at..].chars().next() {
        let rest = &text[at..];
        at += match c {
            ';' => return Ok(at),
            // A doubled quote closes and opens again, with the same result.
            '\'' | '"' | '`' => rest[1..].find(c).ok_or(Unfinished::Quote(c))? + 2,
            '-' if rest.starts_with("--") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => rest[2..].find("*/").ok_or(Unfinished::Comment)? + 4,
            '$' => match rest[1..].find('$') {
                // $$ … $$ or $tag$ … $tag$
                Some(length)
                    if rest[1..=length].chars().all(|c| c.is_alphanumeric() || c == '_')
                        && !rest[1..].starts_with(|c: char| c.is_ascii_digit()) =>
                {
                    let tag = &rest[..length + 2];
                    rest[tag.len()..].find(tag).ok_or(Unfinished::Quote('$'))? + 2 * tag.len()
                }
                _ => 1,
            },
            c => c.len_utf8(),
        };
    }
    Err(Unfinished::Statement)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statements(script: &str) -> Vec<&str> {
        parts(script)
            .into_iter()
            .map(|part| match part {
                ScriptPart::Statement { sql, .. } => sql,
                ScriptPart::Command(command) => command,
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
            assert_eq!(open, [ScriptPart::Statement { sql: script, complete: false }]);
        }
    }

    #[test]
    fn several_parts() {
        let script = "-- first\nSELECT 1;;\n\\d t\n /* x */ SELECT 2 ; SELECT 3";
        assert_eq!(statements(script), ["SELECT 1", "\\d t", "SELECT 2", "SELECT 3"]);
        assert_eq!(statements("  -- nothing\n"), [""; 0]);
    }

    #[test]
    fn quotes_that_stay_open() {
        for (script, what) in [
            ("SELECT 'abc;", Unfinished::Quote('\'')),
            ("SELECT \"x;", Unfinished::Quote('"')),
            ("SELECT $$ ;", Unfinished::Quote('$')),
            ("SELECT /* ;", Unfinished::Comment),
            ("SELECT 'abc;'", Unfinished::Statement),
        ] {
            assert_eq!(parts(script), [ScriptPart::Statement { sql: script, complete: false }]);
            assert_eq!(open(script), what);
        }
    }

    #[test]
    fn commands_with_a_dot() {
        let script = ".tables\nSELECT t\n.a;\n.mode csv\nSELECT .5";
        assert_eq!(statements(script), [".tables", "SELECT t\n.a", ".mode csv", "SELECT .5"]);
        assert_eq!(parts(".5"), [ScriptPart::Statement { sql: ".5", complete: false }]);
    }
}
