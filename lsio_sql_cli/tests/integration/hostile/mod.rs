//! Stores from strangers: whatever is in them, each query gives an error that names the culprit or a
//! right answer, soon and in little memory, and the same process answers the next query.
//!
//! The stores are made here, from good ones that are broken in one place after the other: all values of
//! all documents ([`documents`]), all kinds of encoded chunks ([`frames`]), and what a file system can
//! put in the place of a file ([`places`]). One process at its prompt ([`Prompt`]) meets all of a kind.
//!
//! A run takes a part of the cases, always the same. `LSIO_HOSTILE_ALL=1` runs all, and tells of each
//! problem as it comes; `LSIO_HOSTILE=NAME` runs those alone whose name contains NAME, shows what came
//! of them, and leaves their stores where they are.

mod documents;
mod frames;
mod known;
mod places;
mod stores;

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    path::{Path, PathBuf},
    time::Duration,
};

use self::{
    known::KNOWN,
    stores::{Files, SUMS},
};
use crate::prompt::{Answer, Prompt};

/// What a query may take.
const CPU: Duration = Duration::from_secs(2);
const CLOCK: Duration = Duration::from_secs(10);
/// Beyond what the process has begun with: about 110 MiB of a debug build are the program. A document of 12 MB, whose
/// values may take 96 MiB, has come to 184 MiB: itself twice where it holds NaN, its values, and what the
/// queries before it have left.
const PEAK_MIB: u64 = 220;
/// What a query may say, in bytes.
const TALK: usize = 16 << 10;

/// What becomes of a broken store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expect {
    /// The answer of the good store.
    Good,
    GoodOrError,
    Error,
    /// An error or an answer: what was changed has a meaning, and may mean this.
    Anything,
}

/// A store that is broken in one place.
struct Case {
    name: String,
    files: Files,
    expect: Expect,
    /// What files alone don't do; what it gives back lives as long as the queries.
    prepare: Option<Prepare>,
    /// Options behind the path.
    options: &'static str,
}

type Prepare = Box<dyn FnOnce(&Path) -> Box<dyn Send>>;

impl Case {
    fn new(name: String, files: Files, expect: Expect) -> Self {
        Self { name, files, expect, prepare: None, options: "" }
    }

    fn with_options(self, options: &'static str) -> Self {
        Self { options, ..self }
    }

    fn prepared<T: Send + 'static>(self, prepare: impl FnOnce(&Path) -> T + 'static) -> Self {
        Self { prepare: Some(Box::new(|store| Box::new(prepare(store)))), ..self }
    }
}

/// Runs about `most` cases of one kind. `good` is the store that they were made of.
fn run(kind: &str, engine: &str, good: &Files, most: usize, cases: Vec<Case>) {
    let chosen = env::var("LSIO_HOSTILE").ok();
    let all = env::var_os("LSIO_HOSTILE_ALL").is_some();
    let count = cases.len().max(1);
    let mut ran = 0;
    let temporary = tempfile::Builder::new().prefix("hostile").tempdir().unwrap();
    let directory = temporary.path().to_owned();
    if chosen.is_some() {
        let _ = temporary.keep();
    }
    let mut check = Check::new(&directory, engine, good);
    let mut names = BTreeSet::new();
    for case in cases {
        let name = format!("{kind}/{}", case.name);
        assert!(names.insert(name.clone()), "two cases are called {name}");
        let is_known = || KNOWN.iter().any(|known| known.names(&name));
        let runs = match &chosen {
            Some(chosen) => name.contains(chosen),
            None => all || is_known() || share(&name) * count < most << 16,
        };
        if !runs {
            continue;
        }
        ran += 1;
        let store = directory.join(format!("s{ran}"));
        stores::write(&store, &case.files);
        let held = case.prepare.map(|prepare| prepare(&store));
        let problems = check.store(&store, case.options, case.expect, chosen.is_some());
        drop(held);
        if chosen.is_none() {
            let _ = fs::remove_dir_all(&store);
        } else {
            eprintln!("{name} is {}", store.display());
        }
        check.note(&name, problems);
    }
    check.finish(kind, ran, names.len(), chosen.is_some());
}

/// A number below 65 536 for a name: FNV-1a, so that a sample has some of all.
fn share(name: &str) -> usize {
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    });
    (hash >> 40 & 0xffff) as usize
}

/// The process, and what was found.
struct Check {
    directory: PathBuf,
    engine: String,
    prompt: Prompt,
    /// The control's name and right answer.
    control: (PathBuf, Vec<String>),
    /// The right answer of the stores.
    good: Vec<String>,
    unknown: Vec<String>,
    known: BTreeMap<&'static str, Vec<String>>,
    peak: u64,
    slowest: (Duration, String),
}

impl Check {
    fn new(directory: &Path, engine: &str, good: &Files) -> Self {
        let control = directory.join("control");
        stores::write(&control, &stores::v3(false));
        let whole = directory.join("good");
        stores::write(&whole, good);
        let mut prompt = Prompt::start(directory, engine);
        let mut answer = |store: &Path| {
            let answer = prompt.ask(&sums(store));
            assert_eq!((answer.rows.len(), answer.error()), (1, None), "{answer:?}");
            answer.rows
        };
        let control = (control.clone(), answer(&control));
        assert_eq!(control.1, [r#"{"n":24,"least":60.0,"total":1578.0}"#]);
        let good = answer(&whole);
        Self {
            directory: directory.to_owned(),
            engine: engine.to_owned(),
            prompt,
            control,
            good,
            unknown: Vec::new(),
            known: BTreeMap::new(),
            peak: 0,
            slowest: (Duration::ZERO, String::new()),
        }
    }

    /// Queries a store, and says what was wrong about the answers.
    fn store(&mut self, store: &Path, options: &str, expect: Expect, show: bool) -> Vec<String> {
        let name = store.file_name().unwrap().to_string_lossy().into_owned();
        let mut problems = Vec::new();
        let mut said = String::new();
        let path = format!("'{}{options}'", store.display());
        for (number, sql) in [
            format!("SELECT {SUMS} FROM {path}"),
            format!("SELECT * FROM {path} LIMIT 3"),
            format!("SELECT count(*) FROM zarr_variables({path})"),
        ]
        .iter()
        .enumerate()
        {
            let answer = self.prompt.ask(sql);
            if show {
                eprintln!("{sql}\n{answer:#?}");
            }
            said.push_str(&answer.messages.join("\n"));
            problems.extend(bounds(&answer));
            problems.extend(manners(&answer, &said, &name));
            if number == 0 {
                problems.extend(judge(&answer, expect, &self.good));
            }
            self.peak = self.peak.max(answer.peak);
            self.slowest = self.slowest.clone().max((answer.cpu, name.clone()));
            if answer.lost.is_some() {
                self.prompt = Prompt::start(&self.directory, &self.engine);
            }
        }
        let control = self.prompt.ask(&sums(&self.control.0));
        if control.rows != self.control.1 || control.error().is_some() {
            problems.push(format!("afterwards a good store gave {control:?}"));
            self.prompt = Prompt::start(&self.directory, &self.engine);
        }
        problems
    }

    /// Keeps what was found of a case.
    fn note(&mut self, name: &str, problems: Vec<String>) {
        for problem in problems.iter().filter(|_| env::var_os("LSIO_HOSTILE_ALL").is_some()) {
            eprintln!("{name}: {problem}");
        }
        let known = KNOWN.iter().find(|known| known.names(name));
        match known {
            Some(known) => {
                let found = self.known.entry(known.case).or_default();
                found.extend(problems.into_iter().map(|problem| format!("{name}: {problem}")));
            }
            None => {
                let all = problems.into_iter().map(|problem| format!("{name}: {problem}"));
                self.unknown.extend(all);
            }
        }
    }

    fn finish(self, kind: &str, ran: usize, cases: usize, chosen: bool) {
        let Self { prompt, unknown, known, peak, slowest, .. } = self;
        eprintln!(
            "{kind}: {ran} of {cases} stores; peak {peak} MiB; slowest {:?} ({}); {} known problems",
            slowest.0,
            slowest.1,
            known.values().map(Vec::len).sum::<usize>()
        );
        let status = prompt.quit();
        assert!(status.success(), "the process ended with {status}");
        for (case, found) in &known {
            eprintln!("known: {case}: {} problems, such as {:?}", found.len(), found.first());
            assert!(chosen || !found.is_empty(), "'{case}' is mended: take it off the list");
        }
        assert!(unknown.is_empty(), "{} problems:\n{}", unknown.len(), unknown.join("\n"));
    }
}

fn sums(store: &Path) -> String {
    format!("SELECT {SUMS} FROM '{}'", store.display())
}

/// Whether it went on in time and memory.
fn bounds(answer: &Answer) -> Vec<String> {
    let mut problems: Vec<String> = answer.lost.clone().into_iter().collect();
    if answer.cpu > CPU {
        problems.push(format!("it took {:?} of the processor", answer.cpu));
    }
    if answer.lost.is_none() && answer.clock > CLOCK {
        problems.push(format!("it took {:?}", answer.clock));
    }
    if answer.peak > PEAK_MIB {
        problems.push(format!("it took {} MiB", answer.peak));
    }
    problems
}

/// Whether what it says can be understood and helps. An array that is left out is named once, when the
/// store is first opened.
fn manners(answer: &Answer, said: &str, store: &str) -> Vec<String> {
    let mut problems = Vec::new();
    let talk: usize = answer.messages.iter().chain(&answer.rows).map(String::len).sum();
    if talk > TALK {
        problems.push(format!("it said {talk} bytes"));
    }
    for line in &answer.messages {
        let lower = line.to_lowercase();
        for word in ["internal error", "panicked", "overflow", "join error", "poisoned"] {
            if lower.contains(word) {
                problems.push(format!("it said: {}", short(line)));
            }
        }
    }
    if let Some(error) = answer.error()
        && !said.contains(store)
    {
        problems.push(format!("the error names nothing: {}", short(error)));
    }
    problems
}

fn judge(answer: &Answer, expect: Expect, good: &[String]) -> Option<String> {
    if answer.lost.is_some() {
        return None;
    }
    let is_good = answer.error().is_none() && answer.rows == good;
    let fits = match expect {
        Expect::Good => is_good,
        Expect::GoodOrError => is_good || answer.error().is_some(),
        Expect::Error => answer.error().is_some(),
        Expect::Anything => true,
    };
    let got = || match answer.error() {
        Some(error) => short(error),
        None => short(&answer.rows.join(" ")),
    };
    (!fits).then(|| format!("{expect:?} was expected, but it gave: {}", got()))
}

fn short(text: &str) -> String {
    let cut: String = text.chars().take(300).collect();
    if cut.len() < text.len() { format!("{cut}…") } else { cut }
}

#[test]
fn broken_documents_v2() {
    run("v2", "auto", &stores::v2(false), 250, documents::v2());
}

#[test]
fn broken_documents_v3() {
    run("v3", "auto", &stores::v3(false), 250, documents::v3());
}

#[test]
fn broken_consolidated_documents() {
    run("consolidated", "auto", &stores::v3(true), 120, documents::consolidated());
}

#[test]
fn broken_codec_documents() {
    run("codecs", "auto", &stores::raw(), 250, documents::codecs());
}

#[test]
fn broken_neighbours() {
    run("neighbours", "auto", &stores::v2(false), 200, documents::neighbours());
}

#[test]
fn broken_times() {
    run("times", "auto", &stores::v3(false), 100, documents::times());
}

#[test]
fn broken_frames() {
    run("frames", "auto", &stores::raw(), 450, frames::cases());
}

#[test]
fn broken_places() {
    // object_store's own waits for whoever writes into a pipe.
    for engine in ["auto", "pread"] {
        run(&format!("places_{engine}"), engine, &stores::v3(false), 1000, places::cases());
    }
}
