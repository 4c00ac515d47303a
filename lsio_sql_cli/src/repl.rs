//! The prompt: statements over several lines, history, highlighting.

use std::{borrow::Cow, env, io, path::PathBuf, thread};

use datafusion::sql::sqlparser::{
    dialect::GenericDialect,
    keywords::Keyword,
    tokenizer::{Token, Tokenizer},
};
use futures::{
    FutureExt as _, StreamExt as _,
    channel::mpsc::{self, UnboundedReceiver},
};
use rustyline::{
    Completer, Config, Editor, Helper, Hinter,
    error::ReadlineError,
    highlight::{CmdKind, Highlighter},
    history::FileHistory,
    validate::{ValidationContext, ValidationResult, Validator},
};

use crate::{
    Error,
    execute::{Next, Runner},
    message,
    script::{Part, parts},
};

const KEYWORD: &str = "\x1b[1;34m";
const TEXT: &str = "\x1b[32m";
const NUMBER: &str = "\x1b[36m";
const COMMENT: &str = "\x1b[90m";
const RESET: &str = "\x1b[0m";

/// Reads and runs statements until the user quits. Errors are shown, and the session goes on.
pub(crate) async fn run(runner: &mut Runner) -> Result<(), Error> {
    let config = Config::builder().history_ignore_space(true).max_history_size(10_000)?.build();
    let mut interrupts = interrupts()?;
    let mut editor: Editor<SqlHelper, FileHistory> = Editor::with_config(config)?;
    editor.set_helper(Some(SqlHelper));
    let history = history_file();
    if let Some(history) = &history {
        // The first time there is none.
        let _ = editor.load_history(history);
    }
    println!("lsio {}. \\? lists the commands, \\q quits.", env!("CARGO_PKG_VERSION"));
    loop {
        let line = match editor.readline("> ") {
            Ok(line) => line,
            // Ctrl-C gives up the line, Ctrl-D the session.
            Err(ReadlineError::Interrupted) => continue,
            Err(ReadlineError::Eof) => break,
            Err(error) => return Err(error.into()),
        };
        if line.trim().is_empty() {
            continue;
        }
        if is_farewell(&line) {
            break;
        }
        editor.add_history_entry(line.as_str())?;
        if let Some(history) = &history {
            // A history that can't be written costs no query.
            let _ = editor.append_history(history);
        }
        if run_line(runner, &line, &mut interrupts).await == Next::Quit {
            break;
        }
    }
    Ok(())
}

/// Each Ctrl-C outside of the editor. A thread of its own waits for it: the runtime looks at signals
/// between tasks, now and then, which may take seconds if a query keeps all of its workers busy.
fn interrupts() -> io::Result<UnboundedReceiver<()>> {
    // Installs the handler. The editor, whenever it is left, puts back the one that it has found, so
    // this one has to be there before.
    tokio::signal::ctrl_c().now_or_never().transpose()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (sender, receiver) = mpsc::unbounded();
    let wait = async move {
        while tokio::signal::ctrl_c().await.is_ok() && sender.unbounded_send(()).is_ok() {}
    };
    thread::Builder::new().name("ctrl-c".to_owned()).spawn(move || runtime.block_on(wait))?;
    Ok(receiver)
}

async fn run_line(runner: &mut Runner, line: &str, interrupts: &mut UnboundedReceiver<()>) -> Next {
    // One that came after the end of the last query isn't meant for this one.
    while let Some(Some(())) = interrupts.next().now_or_never() {}
    for part in parts(line) {
        let run = async {
            match part {
                Part::Statement { sql, .. } => {
                    runner.run_statement(sql).await.map(|()| Next::Continue)
                }
                Part::Command(command) => runner.run_command(command).await,
            }
        };
        let result = tokio::select! {
            result = run => result,
            Some(()) = interrupts.next() => Err("cancelled".into()),
        };
        match result {
            Ok(Next::Continue) => {}
            Ok(Next::Quit) => return Next::Quit,
            Err(error) => {
                eprintln!("Error: {}", message(error.as_ref()));
                return Next::Continue;
            }
        }
    }
    Next::Continue
}

/// Whether the last line says that the user wants to leave.
fn is_farewell(input: &str) -> bool {
    let last = input.lines().last().unwrap_or_default().trim().trim_end_matches(';');
    last == "\\q"
        || (["exit", "quit"].contains(&last) && input.trim().trim_end_matches(';') == last)
}

fn history_file() -> Option<PathBuf> {
    Some(PathBuf::from(env::var_os("HOME")?).join(".lsio_history"))
}

#[derive(Completer, Helper, Hinter)]
struct SqlHelper;

impl Validator for SqlHelper {
    /// Enter runs what ends with a semicolon, and makes a new line otherwise.
    fn validate(&self, context: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        if is_farewell(context.input()) {
            return Ok(ValidationResult::Valid(None));
        }
        Ok(match parts(context.input()).last() {
            Some(Part::Statement { complete: false, .. }) => ValidationResult::Incomplete,
            _ => ValidationResult::Valid(None),
        })
    }
}

impl Highlighter for SqlHelper {
    fn highlight<'l>(&self, line: &'l str, _position: usize) -> Cow<'l, str> {
        let dialect = GenericDialect {};
        let tokens = Tokenizer::new(&dialect, line).with_unescape(false).tokenize();
        // What isn't finished may not be tokens yet.
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
