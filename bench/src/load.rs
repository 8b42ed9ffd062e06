//! Load and its measure: this program again, as the client or the server of one kind of work, in some namespace.
//!
//! ```text
//!   podwire-bench --load serve ADDRESS              a server of all kinds, until its standard input ends
//!   podwire-bench --load KIND ADDRESS N MS …        one piece of work; prints its numbers on one line
//!   podwire-bench --load first ADDRESS ENTER …      how long a program takes to let the first octet through
//! ```
//!
//! **Protocol.** A connection's first octet says what it is for: `u` count what comes and say how much at the end,
//! `d` send until it is closed, `e` echo, `c` answer one octet and close. Datagrams likewise: `u` count, `q` say how
//! many, `d` send for as many milliseconds as follow.

use std::collections::HashMap;
use std::io::{self, BufRead, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::event::epoll;

/// The argument that makes this program a load.
pub(crate) const ARGUMENT: &str = "--load";

/// No answer is waited for longer.
const PATIENCE: Duration = Duration::from_secs(10);
/// A stream that stands still for so long has failed: pasta's uploads at MTU 1500 do.
const STANDSTILL: Duration = Duration::from_secs(3);
/// Who knocks at a way that is not there yet tries again after this.
const KNOCK: Duration = Duration::from_millis(2);
/// Octets of a datagram.
const DATAGRAM: usize = 1400;
/// Octets that may wait to be read, as far as net.core.rmem_max allows.
const ROOM: usize = 4 << 20;
/// Octets of a question, and of its answer.
const QUESTION: usize = 64;

/// Runs what the arguments after [`ARGUMENT`] say.
pub(crate) fn main(arguments: &[String]) -> Result<()> {
    linux::fds::raise_limit()?;
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let work = |to: &str, n: &str, ms: &str| -> Result<Work> {
        Ok(Work { to: to.parse()?, n: n.parse()?, time: Duration::from_millis(ms.parse()?) })
    };
    match words[..] {
        ["serve", address] => serve(address.parse()?),
        [kind, to, n, ms] => {
            let (value, octets) = work(to, n, ms)?.measure(kind)?;
            println!("{value} {octets}");
            Ok(())
        }
        ["idle", to, n, ms, pid] => idle(&work(to, n, ms)?, pid),
        ["knock", to] => knock(to.parse()?),
        ["first", to, enter, program, ref arguments @ ..] => first(to, enter, program, arguments),
        _ => bail!("{ARGUMENT} serve ADDRESS | KIND ADDRESS N MS | first ADDRESS ENTER PROGRAM …"),
    }
}

struct Work {
    to: SocketAddr,
    /// How many at once.
    n: usize,
    time: Duration,
}

impl Work {
    /// What is measured, and how many octets were moved.
    fn measure(&self, kind: &str) -> Result<(f64, u64)> {
        match kind {
            "up" => self.stream(upload),
            "down" => self.stream(download),
            "ask" => self.ask(),
            "connect" => self.connect(),
            "udp-up" => self.datagrams_up(),
            "udp-down" => self.datagrams_down(),
            _ => bail!("there is no load {kind}"),
        }
    }

    fn open(&self) -> io::Result<TcpStream> {
        let stream = TcpStream::connect_timeout(&self.to, PATIENCE)?;
        stream.set_read_timeout(Some(STANDSTILL))?;
        stream.set_write_timeout(Some(STANDSTILL))?;
        Ok(stream)
    }

    /// Gb/s of some streams together.
    fn stream(&self, one: fn(&Self) -> io::Result<(u64, Duration)>) -> Result<(f64, u64)> {
        let done = self.all(one)?;
        let rate = done.iter().map(|(octets, time)| *octets as f64 * 8.0 / 1e9 / time.as_secs_f64()).sum();
        Ok((rate, done.iter().map(|(octets, _)| octets).sum()))
    }

    fn all<T: Send>(&self, one: impl Fn(&Self) -> io::Result<T> + Sync) -> Result<Vec<T>> {
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..self.n).map(|_| scope.spawn(|| one(self))).collect();
            threads.into_iter().map(|thread| Ok(thread.join().map_err(|_| anyhow::anyhow!("a panic"))??)).collect()
        })
    }

    /// Median microseconds of a question and its answer.
    fn ask(&self) -> Result<(f64, u64)> {
        let mut stream = self.open()?;
        stream.set_nodelay(true)?;
        stream.write_all(b"e")?;
        let (begun, mut times, mut room) = (Instant::now(), Vec::new(), [7; QUESTION]);
        while begun.elapsed() < self.time {
            let asked = Instant::now();
            stream.write_all(&room)?;
            stream.read_exact(&mut room)?;
            times.push(asked.elapsed());
        }
        times.sort();
        Ok((times[times.len() / 2].as_secs_f64() * 1e6, 0))
    }

    /// Connections per second, each with an octet there and back, and the server's end.
    fn connect(&self) -> Result<(f64, u64)> {
        let begun = Instant::now();
        let counts = self.all(|work| {
            let (mut count, mut longest) = (0_u64, Duration::ZERO);
            while begun.elapsed() < work.time {
                let from = Instant::now();
                let told = |what| {
                    move |error: io::Error| io::Error::new(error.kind(), format!("{what}: {error}, connection {count}"))
                };
                let mut stream = work.open().map_err(told("connecting"))?;
                stream.write_all(b"c").map_err(told("asking"))?;
                // To its end, so that it is the server that keeps the ports for a minute: looking for one that is free
                // takes a client longer than all else once half of them are not (__inet_hash_connect in Linux).
                stream.read_to_end(&mut Vec::with_capacity(8)).map_err(told("the answer"))?;
                count += 1;
                longest = longest.max(from.elapsed());
            }
            Ok((count, longest))
        })?;
        let count: u64 = counts.iter().map(|(count, _)| count).sum();
        let rate = count as f64 / begun.elapsed().as_secs_f64();
        // Whoever waited a second had a SYN of his repeated.
        eprintln!("longest {:?}", counts.iter().map(|(_, longest)| longest).max());
        Ok((rate, 0))
    }

    fn datagrams(&self) -> Result<UdpSocket> {
        let any = if self.to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = udp(any)?;
        socket.connect(self.to)?;
        Ok(socket)
    }

    /// Thousands of datagrams per second that arrived.
    fn datagrams_up(&self) -> Result<(f64, u64)> {
        let socket = self.datagrams()?;
        let begun = Instant::now();
        let room = [b'u'; DATAGRAM];
        while begun.elapsed() < self.time {
            // What finds no room is lost like what is lost on the way.
            let _ = socket.send(&room);
        }
        let took = begun.elapsed();
        socket.set_read_timeout(Some(Duration::from_millis(200)))?;
        let mut answer = [0; 9];
        for _ in 0..20 {
            let _ = socket.send(b"q");
            if socket.recv(&mut answer).is_ok_and(|length| length == 8) {
                let count = u64::from_le_bytes(answer[..8].try_into()?);
                return Ok((count as f64 / 1e3 / took.as_secs_f64(), count * DATAGRAM as u64));
            }
        }
        bail!("the server of datagrams does not answer")
    }

    fn datagrams_down(&self) -> Result<(f64, u64)> {
        let socket = self.datagrams()?;
        let ms = u16::try_from(self.time.as_millis())?.to_le_bytes();
        socket.send(&[b'd', ms[0], ms[1]])?;
        socket.set_read_timeout(Some(Duration::from_millis(300)))?;
        let (mut count, mut room) = (0_u64, [0; DATAGRAM]);
        let begun = Instant::now();
        while begun.elapsed() < self.time + PATIENCE && socket.recv(&mut room).is_ok() {
            count += 1;
        }
        Ok((count as f64 / 1e3 / self.time.as_secs_f64(), count * DATAGRAM as u64))
    }
}

/// What has arrived when the other side says so, and how long it took.
fn upload(work: &Work) -> io::Result<(u64, Duration)> {
    let mut stream = work.open()?;
    let room = vec![b'u'; 256 << 10];
    let begun = Instant::now();
    while begun.elapsed() < work.time {
        stream.write_all(&room)?;
    }
    stream.shutdown(Shutdown::Write)?;
    let mut answer = [0; 8];
    stream.read_exact(&mut answer)?;
    Ok((u64::from_le_bytes(answer), begun.elapsed()))
}

fn download(work: &Work) -> io::Result<(u64, Duration)> {
    let mut stream = work.open()?;
    stream.write_all(b"d")?;
    let (mut octets, mut room) = (0, vec![0; 256 << 10]);
    let begun = Instant::now();
    while begun.elapsed() < work.time {
        match stream.read(&mut room)? {
            0 => break,
            length => octets += length as u64,
        }
    }
    Ok((octets, begun.elapsed()))
}

/// Opens connections on which nothing is said, and prints how much memory a process has then, in MB; after `ms` more.
fn idle(work: &Work, pid: &str) -> Result<()> {
    let streams = (0..work.n).map(|_| work.open()).collect::<io::Result<Vec<_>>>()?;
    std::thread::sleep(work.time);
    println!("{:.1} {}", memory(pid)?, streams.len());
    Ok(())
}

/// Says when it begins to try, and when an octet has come back.
fn knock(to: SocketAddr) -> Result<()> {
    println!("ready");
    let begun = Instant::now();
    let tried = || -> io::Result<()> {
        let mut stream = TcpStream::connect_timeout(&to, KNOCK)?;
        stream.write_all(b"c")?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.read_exact(&mut [0])
    };
    while tried().is_err() {
        if begun.elapsed() > PATIENCE {
            bail!("nothing came from {to}");
        }
        std::thread::sleep(Duration::from_micros(100));
    }
    println!("in");
    Ok(())
}

/// Milliseconds from the start of a program, which makes a way out of the namespace that `enter` leads into, to the
/// first octet that came by it. The program's standard input is a conversation in which podwire's relay is greeted.
fn first(to: &str, enter: &str, program: &str, arguments: &[&str]) -> Result<()> {
    let us = std::env::current_exe()?;
    let knock = format!("exec {enter} {} {ARGUMENT} knock {to}", us.display());
    let mut knocking = Command::new("sh").args(["-c", &knock]).stdout(Stdio::piped()).spawn()?;
    let mut said = io::BufReader::new(knocking.stdout.take().context("it is piped")?).lines();
    said.next().context("it does not begin")??;
    let (talk, theirs) = linux::Packets::pair()?;
    talk.send(b"\"Hello\"", None)?;
    let begun = Instant::now();
    let mut serving = Command::new(program);
    // By which podwire knows what it is.
    serving.arg0(Path::new(program).file_name().context("a program has a name")?);
    let mut serving = serving.args(arguments).stdin(OwnedFd::from(theirs)).spawn()?;
    let came = said.next().is_some_and(|line| line.is_ok_and(|line| line == "in"));
    let took = begun.elapsed();
    serving.kill()?;
    serving.wait()?;
    knocking.wait()?;
    if !came {
        bail!("{program} made no way to {to}");
    }
    println!("{:.1}", took.as_secs_f64() * 1e3);
    Ok(())
}

/// Resident megabytes of a process.
fn memory(pid: &str) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim_matches([' ', '\t', 'k', 'B']).parse::<f64>()? / 1024.0)
}

/// Serves until the standard input ends.
fn serve(address: SocketAddr) -> Result<()> {
    let listener = TcpListener::bind(address)?;
    rustix::net::listen(&listener, 4096)?;
    let datagrams = udp(address)?;
    println!("listening");
    std::thread::spawn(move || serve_datagrams(&datagrams));
    std::thread::spawn(move || serve_streams(&listener));
    io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

/// Waits for the first octet of each; connections that say nothing cost no thread.
fn serve_streams(listener: &TcpListener) -> Result<()> {
    let wait = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let watch = |fd: std::os::fd::BorrowedFd<'_>, number: usize| {
        epoll::add(&wait, fd, epoll::EventData::new_u64(number as u64), epoll::EventFlags::IN)
    };
    watch(listener.as_fd(), 0)?;
    let mut streams: Vec<Option<TcpStream>> = vec![None];
    let mut free = Vec::new();
    loop {
        let mut events = [epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) }; 64];
        let count = rustix::io::retry_on_intr(|| epoll::wait(&wait, &mut events, None))?;
        for event in &events[..count] {
            let number = event.data.u64() as usize;
            if number == 0 {
                let Ok((stream, _)) = listener.accept() else { continue };
                let place = free.pop().unwrap_or_else(|| {
                    streams.push(None);
                    streams.len() - 1
                });
                watch(stream.as_fd(), place)?;
                streams[place] = Some(stream);
                continue;
            }
            let Some(mut stream) = streams[number].take() else { continue };
            free.push(number);
            let mut first = [0];
            match stream.read(&mut first) {
                Ok(1) if first == *b"c" => {
                    let _ = stream.write_all(b"c");
                }
                Ok(1) => {
                    let _ = epoll::delete(&wait, &stream);
                    std::thread::spawn(move || serve_stream(first[0], stream));
                }
                _ => {}
            }
        }
    }
}

fn serve_stream(kind: u8, mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut room = vec![0; 256 << 10];
    match kind {
        b'u' => {
            let mut octets = 1_u64;
            loop {
                match stream.read(&mut room)? {
                    0 => return stream.write_all(&octets.to_le_bytes()),
                    length => octets += length as u64,
                }
            }
        }
        b'd' => loop {
            stream.write_all(&room)?;
        },
        _ => loop {
            match stream.read(&mut room)? {
                0 => return Ok(()),
                length => stream.write_all(&room[..length])?,
            }
        },
    }
}

/// A socket with room for what arrives while others have the processor: what is measured is the way to it.
fn udp(address: impl std::net::ToSocketAddrs) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(address)?;
    rustix::net::sockopt::set_socket_recv_buffer_size(&socket, ROOM)?;
    Ok(socket)
}

fn serve_datagrams(socket: &UdpSocket) -> Result<()> {
    let mut counts: HashMap<SocketAddr, u64> = HashMap::new();
    let mut room = [0; 2048];
    loop {
        let (length, from) = match socket.recv_from(&mut room) {
            Ok(got) => got,
            // A client that has gone.
            Err(_) => continue,
        };
        match room[..length] {
            [b'q', ..] => {
                let count = counts.remove(&from).unwrap_or_default();
                let _ = socket.send_to(&count.to_le_bytes(), from);
            }
            [b'd', low, high, ..] => {
                let (socket, time) =
                    (socket.try_clone()?, Duration::from_millis(u16::from_le_bytes([low, high]).into()));
                std::thread::spawn(move || {
                    let begun = Instant::now();
                    while begun.elapsed() < time {
                        let _ = socket.send_to(&[0; DATAGRAM], from);
                    }
                });
            }
            _ => *counts.entry(from).or_default() += 1,
        }
    }
}
