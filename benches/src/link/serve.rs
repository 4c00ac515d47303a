//! The server, in a process of its own. Prints its URL on a line, and for each line of input the requests since the
//! last one. Ends with its input.

use std::{
    env,
    io::{self, BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use lsio_test_servers::{Server, round_trips};

use super::{Link, Protocol};
use crate::Error;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    link: Link,
    /// The directory that is served
    root: PathBuf,
}

pub(crate) fn run(args: &Args) -> Result<(), Error> {
    let protocol = match args.link.protocol {
        Protocol::S3 => lsio_test_servers::Protocol::S3,
        Protocol::Http => lsio_test_servers::Protocol::Http,
    };
    let server = Server::builder(&args.root).protocol(protocol).start()?;
    server.set_link(lsio_test_servers::Link {
        latency: args.link.latency,
        bytes_per_second: (args.link.rate > 0).then(|| args.link.rate.saturating_mul(1_000_000)),
    });
    println!("{}", server.url());
    for line in io::stdin().lines() {
        line?;
        let requests = server.take_requests();
        let bytes: u64 = requests.iter().map(|request| request.bytes).sum();
        println!("{} {bytes} {}", requests.len(), round_trips(&requests));
    }
    Ok(())
}

/// Requests to a server.
pub(crate) struct Traffic {
    pub requests: u64,
    /// Bytes of all answers' bodies.
    pub bytes: u64,
    /// Least number of round trips that these requests need.
    pub round_trips: u64,
}

/// A server in another process, which ends when this is dropped.
pub(crate) struct Served {
    pub url: String,
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Served {
    pub(crate) fn start(link: &Link, root: &Path) -> Result<Self, Error> {
        let mut process = Command::new(env::current_exe()?)
            .args(["serve", "--protocol", link.protocol.name()])
            .args(["--latency", &format!("{}s", link.latency.as_secs_f64())])
            .args(["--rate", &link.rate.to_string()])
            .arg("--")
            .arg(root)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let input = process.stdin.take().ok_or("the server reads nothing")?;
        let output = process.stdout.take().ok_or("the server says nothing")?;
        let mut served =
            Self { url: String::new(), process, input, output: BufReader::new(output) };
        served.url = served.line()?;
        Ok(served)
    }

    /// Requests to the server since the last call.
    pub(crate) fn traffic(&mut self) -> Result<Traffic, Error> {
        self.input.write_all(b"\n")?;
        let line = self.line()?;
        let mut numbers = line.split(' ').map(str::parse::<u64>);
        let mut next = || numbers.next().ok_or("the server says too little");
        Ok(Traffic { requests: next()??, bytes: next()??, round_trips: next()?? })
    }

    fn line(&mut self) -> Result<String, Error> {
        let mut line = String::new();
        if self.output.read_line(&mut line)? == 0 {
            return Err("the server has ended".into());
        }
        Ok(line.trim_end().to_owned())
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
