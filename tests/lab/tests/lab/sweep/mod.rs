//! kill -9 and failing system calls, anywhere: one next command finds or makes everything right.
//!
//! ```text
//!   victim (a row of table.rs)           process                        blow, at the n-th system call
//!   arrange ─ command ── traced ──────── the command, what it starts ── killed
//!             │                          netd, relay, … that run        ENOSPC, ENOMEM, EMFILE, EIO, EINTR, ENOBUFS
//!   one next command works; records and kernel agree (`whole`); what reported success is so (`done`);
//!   what is left that nobody lists?  nothing: no link, address, route, rule, mount, namespace, process, file, row
//!   and a container beside, asked every 20 ms from another host, has missed nothing
//! ```
//!
//! `./x sweep` strikes at every call, `LAB_SWEEP=200 ./x sweep 'pod create'` at 200 of each process and kind of blow,
//! `./x test` at [`FEW`]: evenly spread, the same in every run. What was tried is in `docs/book/reliability.md`.

mod table;

use std::path::Path;
use std::time::Duration;

use lab::trial::{Need, Sentence};
use lab::{Background, HOST4, Lab, LabOptions, Run, State, USER, USER_ID};

use crate::words::{banner_comes, eventually, get, load, load_for_user, peer};

pub(crate) use table::ON_A_LEASE;

/// Places of each process and kind of blow where there is little time.
const FEW: u64 = 6;

/// All errors that a call may be made to fail with, in turn.
const ERRNOS: [&str; 6] = ["ENOSPC", "EMFILE", "EIO", "ENOMEM", "EINTR", "ENOBUFS"];

/// So many failures of one victim are told; then it is left.
const ENOUGH: usize = 12;

pub(crate) fn sentences() -> Vec<Sentence> {
    table::VICTIMS.iter().map(sentence).collect()
}

fn sentence(victim: &'static Victim) -> Sentence {
    Sentence {
        name: format!("sweep: {}, struck at any system call, leaves nothing", victim.name).into(),
        needs: victim.needs,
        options: options(victim.who),
        body: Box::new(|lab| sweep(lab, victim)),
    }
}

/// A lab that lives as long as a sweep may take.
pub(crate) fn options(who: Who) -> LabOptions {
    let seconds = if places_wanted() == FEW { 300 } else { 12 * 3600 };
    LabOptions { limit: Duration::from_secs(seconds), user: who == Who::User, ..LabOptions::default() }
}

/// One command that things happen to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Victim {
    /// In the sentence.
    pub(crate) name: &'static str,
    /// Whose command it is.
    pub(crate) who: Who,
    /// What runs beside it.
    pub(crate) beside: Beside,
    /// What the machine must have.
    pub(crate) needs: &'static [Need],
    /// The processes that are hit.
    pub(crate) hit: &'static [Whom],
    /// Once, before the state to come back to is looked at; what it starts runs until the end.
    pub(crate) prepare: fn(&Lab) -> Option<Background>,
    /// Makes what the command needs.
    pub(crate) arrange: &'static str,
    /// The command.
    pub(crate) command: &'static str,
    /// Must succeed when the command has.
    pub(crate) done: &'static str,
    /// Must succeed after the next command, whatever happened.
    pub(crate) whole: &'static str,
    /// Is part of the name of everything the command makes, and of nothing else; more of them, with | between.
    pub(crate) sign: &'static str,
    /// Takes away what is there when the command did what it should.
    pub(crate) clear: &'static str,
}

/// Which process is hit.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Whom {
    /// The command (0), or the nth podwire that it starts.
    Role(usize),
    /// The youngest process of this name that runs already.
    Running(&'static str),
}

/// Whose containers they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    Root,
    /// The lab's ordinary user.
    User,
}

/// What runs beside the victim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Beside {
    /// A container that must not miss anything.
    Asked,
    /// A container whose connections go through what is hit: it must be there afterwards.
    There,
    /// Nothing: whatever the command needs, it has to start itself.
    Nobody,
}

impl Who {
    fn runs(self, lab: &Lab, line: &str) -> Run {
        match self {
            Self::Root => lab.host(line),
            Self::User => lab.user(line),
        }
    }

    /// The banner image in his store.
    fn loads(self, lab: &Lab) {
        match self {
            Self::Root => load(lab),
            Self::User => load_for_user(lab),
        }
    }

    /// The tracer, which traces what it starts as him. It is root's: who gains privileges is traced by nobody else.
    fn tracer(self) -> String {
        match self {
            Self::Root => "labtool trace".to_owned(),
            Self::User => format!(
                "cd /home/{USER}; export HOME=/home/{USER} XDG_RUNTIME_DIR=/run/user/{USER_ID} PATH=/run/lab/bin:$PATH; \
                 labtool trace --user {USER_ID}"
            ),
        }
    }

    fn root(self) -> String {
        match self {
            Self::Root => "/var/lib/podwire".to_owned(),
            Self::User => format!("/home/{USER}/.local/share/podwire"),
        }
    }
}

/// How one blow went.
#[derive(Debug, Clone, Copy)]
struct Blow {
    whom: Whom,
    at: u64,
    errno: Option<&'static str>,
}

/// Strikes at the processes of a victim, and fails with all that did not hold.
pub(crate) fn sweep(lab: &Lab, victim: &Victim) {
    let mut watched = Watched::new(lab, victim);
    let (mut struck, mut failures) = (0, Vec::new());
    for &whom in victim.hit {
        let calls = watched.calls(whom);
        // The first use of a network that was always there is written down.
        watched.rows = rows(lab, victim.who).ok().out;
        for blow in blows(whom, calls) {
            let told = watched.strike(&blow);
            struck += u64::from(told.struck);
            if let Some(failure) = told.failure {
                let failure = format!("{} with {blow:?} ({}): {failure}", victim.command, told.hit);
                println!("sweep: {}: FAULT: {failure}", victim.name);
                failures.push(failure);
                watched.recover();
            }
            if failures.len() == ENOUGH {
                break;
            }
        }
    }
    println!("sweep: {}: {struck} blows, {} faults", victim.name, failures.len());
    failures.extend(watched.over());
    assert!(failures.is_empty(), "of {struck} blows {} left something:\n{}", failures.len(), failures.join("\n"));
}

/// `LAB_SWEEP`: a number, or `all`.
fn places_wanted() -> u64 {
    match std::env::var("LAB_SWEEP").as_deref() {
        Ok("all") => u64::MAX,
        Ok(number) => number.parse().expect("LAB_SWEEP is a number or all"),
        Err(_) => FEW,
    }
}

/// Kills, then errors: in turn where places are few, each of them where every call is struck.
fn blows(whom: Whom, calls: u64) -> Vec<Blow> {
    let places = places(calls, places_wanted());
    let kills = places.iter().map(|&at| Blow { whom, at, errno: None });
    let every = places.len() as u64 == calls;
    let errors = places.iter().enumerate().flat_map(|(place, &at)| {
        let some = if every { &ERRNOS[..] } else { std::slice::from_ref(&ERRNOS[place % ERRNOS.len()]) };
        some.iter().map(move |&errno| Blow { whom, at, errno: Some(errno) })
    });
    kills.chain(errors).collect()
}

/// Places spread over `calls`, different in every part, the same in every run.
fn places(calls: u64, wanted: u64) -> Vec<u64> {
    let points = calls.min(wanted);
    let width = calls / points.max(1);
    let jitter = |k: u64| k.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(17) % width.max(1);
    (0..points).map(|k| 1 + k * calls / points + jitter(k)).collect()
}

/// What a blow did.
struct Told {
    /// It hit something.
    struck: bool,
    /// The call, as the tracer tells it.
    hit: String,
    failure: Option<String>,
}

/// A lab with a neighbour container, if any, that is asked all the time, and the state with it.
struct Watched<'lab> {
    lab: &'lab Lab,
    victim: &'lab Victim,
    asker: Option<Background>,
    /// What was prepared.
    _running: Option<Background>,
    before: State,
    /// As [`ROWS`] says.
    rows: String,
}

impl<'lab> Watched<'lab> {
    fn new(lab: &'lab Lab, victim: &'lab Victim) -> Self {
        let who = victim.who;
        who.loads(lab);
        if victim.beside != Beside::Nobody {
            who.runs(lab, "podwire run -d --name neighbour -p 9090:80 banner").ok();
            banner_comes(|| lab.outside(&get(&format!("{HOST4}:9090"))));
        }
        let asker = (victim.beside == Beside::Asked).then(|| {
            let mut asker = lab.background_outside(&peer(lab, &format!("tcp-keep {HOST4} 9090")));
            asker.until("asking");
            asker
        });
        // Directories that the first published container needs stay; they are no leak.
        who.runs(lab, "podwire run --rm --name first -p 8080:80 banner true").ok();
        let running = (victim.prepare)(lab);
        Self { lab, victim, asker, _running: running, before: lab.settled_state(), rows: rows(lab, who).ok().out }
    }

    /// A shell line of the victim's owner.
    fn runs(&self, line: &str) -> Run {
        self.victim.who.runs(self.lab, line)
    }

    /// The command under the tracer, told so about whom and what.
    fn traced(&self, whom: Whom, how: &str, report: &Path) -> Run {
        self.runs(self.victim.arrange).ok();
        let aim = match whom {
            Whom::Role(role) => format!("--role {role}"),
            Whom::Running(name) => {
                let found = eventually(|| self.lab.quietly(&format!("pgrep -xn {name}")), |run| run.code == 0);
                format!("--attach {}", found.ok().out.trim())
            }
        };
        let tracer = self.victim.who.tracer();
        self.lab.host(&format!("{tracer} {aim} {how} --report {} -- {}", report.display(), self.victim.command))
    }

    /// How many system calls this process makes while the command does its work.
    fn calls(&self, whom: Whom) -> u64 {
        let report = self.lab.dir().join("calls");
        self.traced(whom, "", &report).ok();
        let done = self.runs(self.victim.done);
        assert!(done.code == 0, "{} did not do its work: {}{}", self.victim.command, done.out, done.err);
        self.runs(self.victim.clear);
        self.before.same(self.lab, "after the counted run");
        let text = std::fs::read_to_string(&report).expect("the tracer reports");
        let calls: Vec<u64> = text.lines().filter_map(|line| line.split_once('\t')?.1.parse().ok()).collect();
        let role = if let Whom::Role(role) = whom { role } else { 0 };
        *calls.get(role).unwrap_or_else(|| panic!("{} has no process of role {role}: {calls:?}", self.victim.command))
    }

    /// Strikes once and looks at what became of it.
    fn strike(&self, blow: &Blow) -> Told {
        let report = self.lab.dir().join("hit");
        let how = blow.errno.map_or("--kill".to_owned(), |errno| format!("--errno {errno}"));
        let run = self.traced(blow.whom, &format!("--at {} {how}", blow.at), &report);
        let text = std::fs::read_to_string(&report).unwrap_or_default();
        let hit = text.lines().find(|line| line.starts_with("hit")).map(str::to_owned);
        let failure =
            said_badly(&run).or_else(|| self.unsettled(run.code == 0)).map(|what| format!("{what}\n{}", run.err));
        Told { struck: hit.is_some(), hit: hit.unwrap_or_else(|| "hit nothing".to_owned()), failure }
    }

    /// What is not as it should be, now and once what was wanted is taken away.
    fn unsettled(&self, worked: bool) -> Option<String> {
        let next = self.runs("podwire ps -a --no-trunc");
        let failed = |what: &str, run: &Run| Some(format!("{what}:\n{}{}", run.out, run.err));
        if next.code != 0 {
            return failed("the next command", &next);
        }
        let done = if worked { self.runs(self.victim.done) } else { next };
        if done.code != 0 {
            return failed("it said that it had worked", &done);
        }
        let whole = self.runs(self.victim.whole);
        if whole.code != 0 {
            return failed("not whole", &whole);
        }
        let listed = self.runs(LISTED);
        if listed.code != 0 {
            return failed("it lists", &listed);
        }
        if self.victim.sign.split('|').any(|sign| listed.out.contains(sign)) {
            let cleared = self.runs(self.victim.clear);
            if cleared.code != 0 {
                return failed(self.victim.clear, &cleared);
            }
        }
        // Layers copied for other owners are the image's, and go with it.
        let difference = self.before.left(self.lab);
        let left: Vec<&str> = difference.lines().filter(|line| !line.contains("/mapped-")).collect();
        if !left.is_empty() {
            return Some(difference);
        }
        let rows = eventually(|| rows(self.lab, self.victim.who), |run| run.out == self.rows);
        (rows.out != self.rows).then(|| format!("rows were\n{}and are\n{}{}", self.rows, rows.out, rows.err))
    }

    /// After a fault: what can be cleared is, and what cannot is not told of again.
    fn recover(&mut self) {
        self.runs(self.victim.clear);
        self.before = self.lab.settled_state();
        self.rows = rows(self.lab, self.victim.who).out;
    }

    /// The neighbour must be there, and must not have missed anything.
    fn over(mut self) -> Option<String> {
        if self.victim.beside != Beside::Nobody {
            banner_comes(|| self.lab.outside(&get(&format!("{HOST4}:9090"))));
        }
        let mut asker = self.asker.take()?;
        asker.write("over\n");
        let told = asker.wait().out;
        (!told.contains(", 0 failed")).then(|| format!("the container beside was disturbed: {told}"))
    }
}

/// A command that does not work says so in a sentence, and soon.
fn said_badly(run: &Run) -> Option<String> {
    // Before main() begins, the loader or the standard library can only abort.
    let early = ["library/std/src/", "error while loading shared", "allocation of", "fatal runtime error"];
    let early = early.iter().any(|sign| run.err.contains(sign));
    if run.err.contains("panicked") && !early {
        return Some("a panic".to_owned());
    }
    let silent = (1..124).contains(&run.code) && !early && !run.err.contains("Error: ");
    match run.code {
        124 => Some("it hangs".to_owned()),
        code if silent => Some(format!("it ends with {code} and does not say why")),
        _ => None,
    }
}

fn rows(lab: &Lab, who: Who) -> Run {
    lab.quietly(&ROWS.replace("ROOT", &who.root()))
}

/// The names of everything there is.
const LISTED: &str = "podwire ps -a --format '{{.Names}}' && podwire pod ps --format '{{.Name}}' && \
    podwire network ls --format '{{.Name}}' && podwire volume ls --format '{{.Name}}' && \
    podwire images --format '{{.Repository}}'";

/// How many rows each table of the records has. Events tell what was; an address is kept for who had it last.
const ROWS: &str = "python3 - <<'END'
import sqlite3
db = sqlite3.connect('file:ROOT/podwire.db?mode=ro', uri=True, timeout=10)
for table, in db.execute(\"select name from sqlite_master where type = 'table' order by name\").fetchall():
    # An address that nobody has rests before it is given out again.
    held = 'where container is not null' if table == 'lease' else ''
    if table not in ('event', 'kept_address', 'meta', 'sqlite_sequence'):
        print(table, db.execute(f'select count(*) from {table} {held}').fetchone()[0])
END";
