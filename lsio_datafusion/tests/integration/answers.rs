//! Questions with answers that xarray computed: the committed fixtures, and more wherever a folder
//! of test data lies.

use std::{
    env,
    io::Write as _,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use serde_json::Value;

use crate::{
    harness::{config, rows, same, session, workspace},
    storage::{Answered, lists, note, one_in},
};

/// Questions of one file that are alike for the most part.
const MANY: usize = 500;

/// An option that there isn't.
const UNKNOWN: &str = "?dmis=";

#[derive(Deserialize)]
struct Question {
    store: String,
    sql: String,
    rows: Option<Vec<Vec<Value>>>,
    /// Words that the error must have.
    fails: Option<Vec<String>>,
}

#[tokio::test]
async fn fixtures() {
    let (asked, wrong) = ask(&workspace().join("lsio_datafusion/tests/fixtures")).await;
    assert!(asked > 0);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Every `answers.json` in the subfolders of `LSIO_TEST_DATA`, or of the default place if it is there.
#[tokio::test]
async fn test_data() {
    let named = env::var_os("LSIO_TEST_DATA").map(PathBuf::from);
    let folder = named.clone().unwrap_or_else(|| workspace().join("../shared/data"));
    let mut folders: Vec<PathBuf> = std::fs::read_dir(&folder)
        .map(|entries| entries.filter_map(|entry| Some(entry.ok()?.path())).collect())
        .unwrap_or_default();
    folders.retain(|folder| folder.join("answers.json").is_file());
    folders.sort();
    if folders.is_empty() {
        assert!(named.is_none(), "LSIO_TEST_DATA names {folder:?}, which has no answers.json");
        say(&format!(
            "SKIPPED: no test data in {}; LSIO_TEST_DATA names another place",
            folder.display()
        ));
        note(Answered::Nowhere);
        return;
    }
    let (mut all_asked, mut all_wrong) = (0, Vec::new());
    for folder in folders {
        let (asked, wrong) = ask(&folder).await;
        say(&format!("{}: {asked} asked, {} right", folder.display(), asked - wrong.len()));
        all_asked += asked;
        all_wrong.extend(wrong);
    }
    assert!(all_asked > 0);
    assert!(all_wrong.is_empty(), "{}", all_wrong.join("\n"));
}

/// Tells what was asked, also where the test succeeds and its output is captured.
fn say(text: &str) {
    // Not by eprintln!, which is captured.
    let mut stderr = std::io::stderr();
    writeln!(stderr, "{text}").unwrap();
}

/// Asks all questions of a folder, in its files `answers*.json`. Gives how many there were, and what was wrong.
async fn ask(folder: &Path) -> (usize, Vec<String>) {
    let mut questions: Vec<Question> = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy();
        if name.starts_with("answers") && name.ends_with(".json") {
            let text = std::fs::read_to_string(&path).unwrap();
            let asked: Vec<Question> = serde_json::from_str(&text).unwrap();
            // Many are asked of few stores.
            let every = if asked.len() > MANY { one_in() } else { 1 };
            questions.extend(asked.into_iter().step_by(every));
        }
    }
    let mut wrong = Vec::new();
    for question in &questions {
        // What isn't ours behind a URL is for the web server.
        if !lists() && question.sql.contains(UNKNOWN) {
            continue;
        }
        let ctx = session(config());
        let store = folder.join(&question.store);
        let sql = question.sql.replace("{store}", &store.to_string_lossy());
        let result = rows(&ctx, &sql).await;
        match (result, &question.rows, &question.fails) {
            (Ok(actual), Some(expected), None) => {
                if !same(&actual, expected) {
                    wrong.push(format!("{sql}\n  gave {actual:?}\n  not  {expected:?}"));
                }
            }
            (Err(error), None, Some(words)) => {
                let error = error.to_string();
                if let Some(word) = words.iter().find(|word| !error.contains(*word)) {
                    wrong.push(format!("{sql}\n  failed without '{word}': {error}"));
                }
            }
            (Ok(actual), ..) => wrong.push(format!("{sql}\n  gave {actual:?} and no error")),
            (Err(error), ..) => wrong.push(format!("{sql}\n  failed: {error}")),
        }
    }
    (questions.len(), wrong)
}
