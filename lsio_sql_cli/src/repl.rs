//! The prompt: statements over several lines, history, highlighting.

use std::{borrow::Cow, mem, path::PathBuf};

use datafusion::sql::sqlparser::{
    dialect::GenericDialect,
    keywords::Keyword,
    tokenizer::{Token, Tokenizer},
};
use lsio_core::Environment;
use lsio_datafusion::describe;
use rustyline::{
    Completer, Config, Editor, Helper, Hinter, Validator,
    error::ReadlineError,
    highlight::{CmdKind, Highlighter},
    history::FileHistory,
};

use crate::{
    Error, commands,
    engine::QueryThreads,
    execute::{Next, Shell},
    output::say,
    progress,
    script::{ScriptPart, Unfinished, is_command, open, parts},
};

const KEYWORD: &str = "\x1b[1;34m";
const TEXT: &str = "\x1b[32m";
const NUMBER: &str = "\x1b[36m";
const COMMENT: &str = "\x1b[90m";
const RESET: &str = "\x1b[0m";

/// The file that keeps what was typed, in the home directory.
pub(crate) fn history_file(environment: &Environment) -> Option<PathBuf> {
    Some(PathBuf::from(environment.var_os("HOME")?).join(".lsio_history"))
}

/// Reads and runs statements until the user quits. Errors are shown, and the session goes on.
/// `history` is the file that keeps them.
pub(crate) fn run(
    mut runner: Shell,
    history: Option<PathBuf>,
    engine: &mut QueryThreads,
) -> Result<(), Error> {
    let config = Config::builder().history_ignore_space(true).max_history_size(10_000)?.build();
    let mut editor: Editor<SqlHelper, FileHistory> = Editor::with_config(config)?;
    editor.set_helper(Some(SqlHelper));
    if let Some(history) = &history {
        // The first time there is none.
        let _ = editor.load_history(history);
    }
    say!("lsio {}. \\? lists the commands, \\q quits.", env!("CARGO_PKG_VERSION"));
    let mut lines = Lines::default();
    loop {
        let line = match editor.readline(lines.prompt()) {
            Ok(line) => line,
            // Ctrl-C gives up the statement, Ctrl-D the session.
            Err(ReadlineError::Interrupted) => {
                lines = Lines::default();
                continue;
            }
            Err(ReadlineError::Eof) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let ready = lines.push(&line);
        if lines.pending.is_empty() {
            let entry = mem::take(&mut lines.entry);
            if !entry.trim().is_empty() {
                editor.add_history_entry(entry.trim_end())?;
            }
            if let Some(history) = &history {
                // A history that can't be written is no error.
                let _ = editor.append_history(history);
            }
        } else if let Some(hint) = lines.hint(&line) {
            eprintln!("{hint}");
        }
        for part in ready {
            match run_part(&mut runner, part, engine) {
                Ok(Next::Continue) => {}
                Ok(Next::Quit) => return Ok(()),
                Err(error) => {
                    progress::clear();
                    eprintln!("Error: {}", describe(error.as_ref()).message);
                    lines = Lines::default();
                    break;
                }
            }
        }
    }
}

/// Runs a statement or a command to its end or to Ctrl-C.
fn run_part(runner: &mut Shell, part: Runnable, engine: &mut QueryThreads) -> Result<Next, Error> {
    // A cancelled command leaves the settings as they were.
    let mut copy = runner.clone();
    let (result, copy) = engine.run(async move {
        let result = match part {
            Runnable::Statement(sql) => copy.run_statement(&sql).await.map(|()| Next::Continue),
            Runnable::Command(line) => commands::run(&mut copy, &line).await,
        };
        (result, copy)
    })?;
    *runner = copy;
    result
}

/// Statement or command that can run.
#[derive(Debug, PartialEq, Eq)]
enum Runnable {
    Statement(String),
    Command(String),
}

/// Lines of an unfinished statement.
#[derive(Default)]
struct Lines {
    /// Text that hasn't run.
    pending: String,
    /// All lines, for the history.
    entry: String,
}

impl Lines {
    /// Adds a line. Returns the parts that it completes.
    fn push(&mut self, line: &str) -> Vec<Runnable> {
        let trimmed = line.trim();
        let is_open = !self.pending.is_empty();
        if !is_open {
            self.entry.clear();
            if trimmed.is_empty() {
                return Vec::new();
            }
        }
        // Words that people say to a prompt. In the middle of a statement, commands run at once.
        let word = trimmed.trim_end_matches(';').trim_end().to_ascii_lowercase();
        let command = match word.as_str() {
            "exit" | "quit" if !is_open => Some("\\q"),
            "help" | "?" if !is_open => Some("\\?"),
            _ if is_open
                && open(&self.pending) == Unfinished::Statement
                && is_command(trimmed)
                && commands::is_known(trimmed) =>
            {
                Some(trimmed)
            }
            _ => None,
        };
        if let Some(command) = command {
            return vec![Runnable::Command(command.to_owned())];
        }
        self.entry.push_str(line);
        self.entry.push('\n');
        self.pending.push_str(line);
        self.pending.push('\n');
        let mut ready = Vec::new();
        let mut rest = String::new();
        for part in parts(&self.pending) {
            match part {
                ScriptPart::Statement { sql, complete: true } => {
                    ready.push(Runnable::Statement(sql.to_owned()));
                }
                ScriptPart::Command(line) => ready.push(Runnable::Command(line.to_owned())),
                // Keeps the white space at the end: it may be in a quote.
                ScriptPart::Statement { sql, complete: false } => {
                    let start = self.pending.trim_end().len() - sql.len();
                    rest = self.pending[start..].to_owned();
                }
            }
        }
        self.pending = rest;
        ready
    }

    /// Prompt for the next line.
    fn prompt(&self) -> &'static str {
        if self.pending.is_empty() {
            return "> ";
        }
        match open(&self.pending) {
            Unfinished::Statement => "...> ",
            Unfinished::Quote('\'') => "'> ",
            Unfinished::Quote('"') => "\"> ",
            Unfinished::Quote('`') => "`> ",
            Unfinished::Quote(_) => "$> ",
            Unfinished::Comment => "*> ",
        }
    }

    /// Explains why a line that looks like the end of a statement isn't it.
    fn hint(&self, line: &str) -> Option<String> {
        if !line.trim_end().ends_with(';') {
            return None;
        }
        match open(&self.pending) {
            Unfinished::Statement => None,
            Unfinished::Quote(quote) => {
                Some(format!("(a {quote} is open: close it, or give up the statement with Ctrl-C)"))
            }
            Unfinished::Comment => Some("(a comment is open: */ closes it)".to_owned()),
        }
    }
}

#[derive(Completer, Helper, Hinter, Validator)]
struct SqlHelper;

impl Highlighter for SqlHelper {
    fn highlight<'l>(&self, line: &'l str, _position: usize) -> Cow<'l, str> {
        let dialect = GenericDialect {};
        let tokens = Tokenizer::new(&dialect, line).with_unescape(false).tokenize();
        // An unfinished statement may not tokenize.
        let Ok(tokens) = tokens else { return Cow::Borrowed(line) };
        let mut out = String::with_capacity(line.len() + 32);
        for token in tokens {
            let color = match &token {
                Token::Word(word) if word.keyword != Keyword::NoKeyword => KEYWORD,
                Token::SingleQuotedString(_) => TEXT,
                Token::Number(..) => NUMBER,
                Token::Whitespace(space) if space.to_string().starts_with(['-', '/']) => COMMENT,
                _ => "",
            };
            let reset = if color.is_empty() { "" } else { RESET };
            out.push_str(&format!("{color}{token}{reset}"));
        }
        Cow::Owned(out)
    }

    fn highlight_char(&self, _line: &str, _position: usize, _kind: CmdKind) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statement(sql: &str) -> Runnable {
        Runnable::Statement(sql.to_owned())
    }

    fn command(line: &str) -> Runnable {
        Runnable::Command(line.to_owned())
    }

    #[test]
    fn statements_over_several_lines() {
        let mut lines = Lines::default();
        assert_eq!(lines.push("SELECT 1; SELECT"), [statement("SELECT 1")]);
        assert_eq!(lines.prompt(), "...> ");
        // Commands don't wait, and don't disturb.
        assert_eq!(lines.push(".tables"), [command(".tables")]);
        assert_eq!(lines.push("  2;"), [statement("SELECT\n  2")]);
        assert_eq!((lines.prompt(), lines.entry.as_str()), ("> ", "SELECT 1; SELECT\n  2;\n"));
        assert_eq!(lines.push("  "), []);
        assert_eq!(lines.push("-- nothing"), []);
        assert_eq!(lines.prompt(), "> ");
    }

    #[test]
    fn open_quotes() {
        for (line, prompt, end) in [
            ("SELECT 'it;", "'> ", "';"),
            ("SELECT \"it;", "\"> ", "\";"),
            ("SELECT $$it;", "$> ", "$$;"),
            ("SELECT /* it;", "*> ", "*/ 1;"),
        ] {
            let mut lines = Lines::default();
            assert_eq!(lines.push(line), []);
            assert_eq!(lines.prompt(), prompt);
            assert!(lines.hint(line).is_some(), "{line}");
            // A command in a quote is a part of it.
            assert_eq!(lines.push("\\q"), []);
            assert_eq!(
                lines.push(end),
                [statement(&format!("{line}\n\\q\n{}", &end[..end.len() - 1]))]
            );
            assert_eq!(lines.prompt(), "> ");
        }
    }

    #[test]
    fn words() {
        for (line, expected) in [
            ("exit", "\\q"),
            ("QUIT;", "\\q"),
            ("help", "\\?"),
            ("\\q", "\\q"),
            (".mode csv", ".mode csv"),
        ] {
            assert_eq!(Lines::default().push(line), [command(expected)]);
        }
    }
}
