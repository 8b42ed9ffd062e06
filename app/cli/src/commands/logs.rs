//! `podwire logs`

use std::io::{self, Write};

use engine::{Engine, LogLine, LogOptions, Stream};
use jiff::Timestamp;

use crate::ages;
use crate::choice;
use crate::flags::{Command, signed};
use crate::global::{Podwire, complain};
use crate::outcome::{Failure, Outcome, USAGE};

#[derive(clap::Args)]
pub(crate) struct Logs {
    #[command(flatten)]
    flags: LogFlags,
    /// The container created last
    #[arg(short, long)]
    latest: bool,
    #[arg(hide = true)]
    arguments: Vec<String>,
}

/// Which lines, and what is printed of each.
#[derive(clap::Args)]
pub(super) struct LogFlags {
    /// Wait for more
    #[arg(short, long)]
    follow: bool,
    /// A colour of its own for the name of each container
    #[arg(long)]
    color: bool,
    /// Print the container's name before each line
    #[arg(short, long)]
    names: bool,
    /// From this time on: a time, or a duration back from now
    #[arg(long, value_name = "string")]
    since: Option<String>,
    /// The last lines only; -1: all
    #[arg(long, value_name = "int", value_parser = signed, default_value = "-1")]
    tail: i64,
    /// Print the time before each line
    #[arg(short, long)]
    timestamps: bool,
    /// Up to this time: a time, or a duration back from now
    #[arg(long, value_name = "string")]
    until: Option<String>,
}

impl Command for Logs {
    fn run(self, podwire: &Podwire) -> Outcome {
        if self.arguments.is_empty() && !self.latest {
            return Err(Failure::new("specify at least one container name or ID to log"));
        }
        // What is wrong with the flags is told before anything is opened.
        self.flags.options()?;
        let engine = podwire.engine()?;
        let names = match self.latest {
            true => vec![choice::one(podwire, &engine, self.arguments.first(), true)?],
            false => self.arguments,
        };
        self.flags.print(&engine, &names)
    }
}

impl LogFlags {
    fn options(&self) -> Result<LogOptions, Failure> {
        let now = Timestamp::now();
        let time = |text: &Option<String>, flag: &str| {
            let parsed = text.as_deref().map(|text| ages::parse_time(text, now)).transpose();
            parsed.map_err(|why| {
                Failure::new(format!("parsing --{flag} {:?}: {why}", text.as_deref().unwrap_or_default()))
            })
        };
        Ok(LogOptions {
            follow: self.follow,
            since: time(&self.since, "since")?,
            until: time(&self.until, "until")?,
            tail: usize::try_from(self.tail).ok(),
        })
    }

    /// The logs of these containers, one after the other.
    pub(super) fn print(&self, engine: &Engine, names: &[String]) -> Outcome {
        let options = self.options()?;
        let several = names.len() > 1;
        let mut code = 0;
        for (n, name) in names.iter().enumerate() {
            let label = match (self.names, several) {
                (true, _) => Some(name.clone()),
                (false, true) => Some(engine.find(name)?.short()),
                (false, false) => None,
            };
            let label = label.map(|text| if self.color { coloured(n, &text) } else { text });
            let mut printer = Printer { label, timestamps: self.timestamps, begins: true };
            let mut unread = false;
            let printed = engine.logs(name, &options, &mut |line| {
                printer.print(line).inspect_err(|e| unread = e.kind() == io::ErrorKind::BrokenPipe)
            });
            if unread {
                return Err(io::Error::from(io::ErrorKind::BrokenPipe).into());
            }
            if let Err(error) = printed {
                complain(format_args!("Error: {error}"));
                code = USAGE;
            }
        }
        Ok(code)
    }
}

/// In one of the terminal's six colours.
fn coloured(n: usize, text: &str) -> String {
    format!("\x1b[3{}m{text}\x1b[0m", 1 + n % 6)
}

/// Writes lines of the log to where the container wrote them.
struct Printer {
    label: Option<String>,
    timestamps: bool,
    /// Does a new line of output begin?
    begins: bool,
}

impl Printer {
    fn print(&mut self, line: &LogLine<'_>) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(line.text.len() + 64);
        if self.begins {
            if let Some(label) = &self.label {
                bytes.extend_from_slice(format!("{label} ").as_bytes());
            }
            if self.timestamps {
                bytes.extend_from_slice(format!("{} ", line.time).as_bytes());
            }
        }
        bytes.extend_from_slice(line.text);
        self.begins = line.whole;
        match line.stream {
            Stream::Stdout => {
                let mut out = io::stdout();
                out.write_all(&bytes)?;
                // A prompt has no line end, and whoever follows wants to see it.
                out.flush()
            }
            Stream::Stderr => io::stderr().write_all(&bytes),
        }
    }
}
