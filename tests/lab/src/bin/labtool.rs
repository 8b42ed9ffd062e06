//! The inside of a lab: its first process, a stopwatch, an image of a web server, and the tracer that kills and fails system calls.

use std::io::Read;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use lab::trace::{Aim, Blow};

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    match args.next().as_deref() {
        Some("init") => init(&args.next().context("a directory is needed")?),
        Some("trace") => trace(args.collect()),
        Some("image") => {
            lab::image::docker_archive(&lab::image::banner(), args.next().context("a file is needed")?.as_ref())
        }
        Some("time") => time(&args.collect::<Vec<_>>()),
        _ => bail!(
            "usage: labtool init DIRECTORY | labtool image FILE | labtool time COMMAND\n       \
             labtool trace [--user ID] [--role N | --attach PID] [--at N --kill|--errno E] [--report FILE] -- COMMAND"
        ),
    }
}

/// Makes the lab, then reaps orphans until standard input ends; the kernel then kills what is left in the namespace.
fn init(dir: &str) -> Result<()> {
    let setup = Command::new("/bin/sh").arg(format!("{dir}/setup.sh")).arg(dir).stdin(Stdio::null()).status()?;
    if !setup.success() {
        bail!("setup.sh: {setup}");
    }
    println!("ready");
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    loop {
        if rustix::process::wait(rustix::process::WaitOptions::empty()).is_err() {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Runs a command and prints the milliseconds it took; ends with its code.
fn time(argv: &[String]) -> Result<()> {
    let (program, arguments) = argv.split_first().context("a command is needed")?;
    let begun = Instant::now();
    let status = Command::new(program).args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).status()?;
    println!("{:.3}", begun.elapsed().as_secs_f64() * 1000.0);
    std::process::exit(status.code().unwrap_or(255))
}

fn trace(args: Vec<String>) -> Result<()> {
    let mut aim = Aim { user: None, role: 0, attach: None, at: 0, blow: Blow::Nothing, report: None };
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--user" => aim.user = Some(args.next().context("--user ID")?.parse()?),
            "--role" => aim.role = args.next().context("--role N")?.parse()?,
            "--attach" => aim.attach = Some(args.next().context("--attach PID")?.parse()?),
            "--at" => aim.at = args.next().context("--at N")?.parse()?,
            "--kill" => aim.blow = Blow::Kill,
            "--errno" => aim.blow = Blow::Errno(errno(&args.next().context("--errno NAME")?)?),
            "--report" => aim.report = Some(args.next().context("--report FILE")?.into()),
            "--" => break,
            other => bail!("unknown option {other}"),
        }
    }
    std::process::exit(lab::trace::run(&aim, &args.collect::<Vec<_>>())?)
}

fn errno(name: &str) -> Result<i32> {
    use rustix::io::Errno;
    let known = [
        ("EIO", Errno::IO),
        ("EMFILE", Errno::MFILE),
        ("ENOSPC", Errno::NOSPC),
        ("ENOMEM", Errno::NOMEM),
        ("EINTR", Errno::INTR),
        ("ENOBUFS", Errno::NOBUFS),
    ];
    let found = known.iter().find(|(known, _)| *known == name);
    Ok(found.with_context(|| format!("unknown error {name}"))?.1.raw_os_error())
}
