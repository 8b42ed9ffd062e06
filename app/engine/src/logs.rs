//! Reading a container's log, also while it grows.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Seek, SeekFrom};
use std::os::fd::OwnedFd;
use std::path::Path;

use jiff::Timestamp;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::inotify;

use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::log::LogLine;

/// Which lines of a log.
#[derive(Debug, Clone, Default)]
pub struct LogOptions {
    /// Also those to come, until the container ends.
    pub follow: bool,
    /// Only so many of the last ones.
    pub tail: Option<usize>,
    /// Only those written at this time or later.
    pub since: Option<Timestamp>,
    /// Only those written before.
    pub until: Option<Timestamp>,
}

/// What takes the lines.
pub type LogSink<'a> = dyn FnMut(&LogLine<'_>) -> io::Result<()> + 'a;

impl Engine {
    /// Gives the lines of a container's log to `sink`, in order.
    pub fn logs(&self, name: &str, options: &LogOptions, sink: &mut LogSink<'_>) -> Result<()> {
        let record = self.named(name)?;
        let path = crate::monitor::log_path(&record, &self.places(&record.id)).ok_or_else(|| {
            let text =
                "this container is using the 'none' log driver, cannot read logs: this container is not logging output";
            Error::usage(text)
        })?;
        let file = match File::open(&path) {
            Ok(file) => file,
            // It was never started.
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(Error::at(path.display(), e)),
        };
        let mut reader = Reader { file: BufReader::with_capacity(1 << 16, file), rest: Vec::new(), options, sink };
        let wrong = |e: io::Error| Error::at("reading the log", e);
        // Watched before it is read, so that what is written in between is not missed.
        let growth = options.follow.then(|| watch(&path)).transpose().map_err(wrong)?;
        reader.first_pass().map_err(wrong)?;
        if let (Some(growth), Some(monitor)) = (growth, record.monitor.filter(|_| !record.state.at_rest())) {
            // An error means it has ended: then there is only the rest to read.
            let ended = monitor.pidfd().ok();
            reader.follow(&growth, ended.as_ref()).map_err(wrong)?;
        }
        Ok(())
    }
}

fn watch(path: &Path) -> io::Result<OwnedFd> {
    let watcher = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
    inotify::add_watch(&watcher, path, inotify::WatchFlags::MODIFY)?;
    Ok(watcher)
}

struct Reader<'a, 'b> {
    file: BufReader<File>,
    /// The beginning of a line that is still being written.
    rest: Vec<u8>,
    options: &'a LogOptions,
    sink: &'a mut LogSink<'b>,
}

impl Reader<'_, '_> {
    fn first_pass(&mut self) -> io::Result<()> {
        match self.options.tail {
            None => self.read_on(),
            Some(count) => {
                let start = tail_start(&mut self.file, count)?;
                self.file.seek(SeekFrom::Start(start))?;
                self.read_on()
            }
        }
    }

    /// Everything there is now.
    fn read_on(&mut self) -> io::Result<()> {
        loop {
            if self.file.read_until(b'\n', &mut self.rest)? == 0 || !self.rest.ends_with(b"\n") {
                return Ok(());
            }
            let line = std::mem::take(&mut self.rest);
            if let Some(line) = LogLine::parse(&line).filter(|line| wanted(self.options, line)) {
                (self.sink)(&line)?;
            }
        }
    }

    fn follow(&mut self, growth: &OwnedFd, ended: Option<&OwnedFd>) -> io::Result<()> {
        loop {
            let over = match ended {
                None => true,
                Some(ended) => {
                    let mut wait = [PollFd::new(growth, PollFlags::IN), PollFd::new(ended, PollFlags::IN)];
                    rustix::io::retry_on_intr(|| poll(&mut wait, None))?;
                    !wait[1].revents().is_empty()
                }
            };
            let mut events = [0; 4096];
            // Only that something happened matters, not what.
            while matches!(rustix::io::read(growth, &mut events), Ok(1..)) {}
            // One with a greatest size has begun anew.
            if self.file.stream_position()? > self.file.get_ref().metadata()?.len() {
                self.file.rewind()?;
                self.rest.clear();
            }
            self.read_on()?;
            if over {
                return Ok(());
            }
        }
    }
}

fn wanted(options: &LogOptions, line: &LogLine<'_>) -> bool {
    if options.since.is_none() && options.until.is_none() {
        return true;
    }
    let Ok(time) = line.time.parse::<Timestamp>() else { return true };
    options.since.is_none_or(|since| time >= since) && options.until.is_none_or(|until| time < until)
}

/// Where the last `count` whole lines of the container's begin.
fn tail_start(file: &mut BufReader<File>, count: usize) -> io::Result<u64> {
    if count == 0 {
        return file.seek(SeekFrom::End(0));
    }
    // Starts of the container's lines; one of them may be several of the log's.
    let mut starts: VecDeque<u64> = VecDeque::new();
    let (mut at, mut begins, mut line) = (0, true, Vec::new());
    loop {
        line.clear();
        let length = file.read_until(b'\n', &mut line)?;
        // A line still being written is not one yet.
        if !line.ends_with(b"\n") {
            break;
        }
        if begins {
            starts.push_back(at);
            if starts.len() > count {
                starts.pop_front();
            }
        }
        begins = LogLine::parse(&line).is_none_or(|line| line.whole);
        at += length as u64;
    }
    Ok(starts.front().copied().unwrap_or(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(log: &str, options: &LogOptions) -> String {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ctr.log");
        std::fs::write(&path, log).unwrap();
        let mut out = Vec::new();
        let mut sink = |line: &LogLine<'_>| {
            out.extend_from_slice(line.text);
            Ok(())
        };
        let file = BufReader::new(File::open(&path).unwrap());
        Reader { file, rest: Vec::new(), options, sink: &mut sink }.first_pass().unwrap();
        String::from_utf8(out).unwrap()
    }

    const LOG: &str = "2026-11-24T10:00:00.000000000+00:00 stdout F one\n\
                       2026-11-24T10:00:01.000000000+00:00 stdout P tw\n\
                       2026-11-24T10:00:02.000000000+00:00 stdout F o\n\
                       2026-11-24T10:00:03.000000000+00:00 stderr F three\n\
                       2026-11-24T10:00:04.0000";

    #[test]
    fn a_line_written_in_pieces_is_one_line_of_the_tail() {
        let tail = |count| read(LOG, &LogOptions { tail: Some(count), ..LogOptions::default() });
        assert_eq!(tail(0), "");
        assert_eq!(tail(2), "two\nthree\n");
        assert_eq!(tail(9), "one\ntwo\nthree\n");
        assert_eq!(read(LOG, &LogOptions::default()), "one\ntwo\nthree\n");
    }

    #[test]
    fn lines_can_be_chosen_by_time() {
        let at = |text: &str| Some(text.parse().unwrap());
        let options = LogOptions {
            since: at("2026-11-24T10:00:01Z"),
            until: at("2026-11-24T10:00:03Z"),
            ..LogOptions::default()
        };
        assert_eq!(read(LOG, &options), "two\n");
    }
}
