//! The loop: waits, hands what came to the seats, does what they say.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender};
use std::time::Duration;

use dhcp::Moment;
use engine::{Given, LanWish};
use linux::NetNs;
use linux::machine::since_boot;
use model::{ContainerId, NetworkId};
use rustix::event::epoll::EventFlags;
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};

use super::follower::Job;
use super::seat::{Place, Seat, Standing};

/// How long the loop pauses when it cannot even wait.
const PAUSE: Duration = Duration::from_millis(100);

/// What the loop waits for.
pub(super) type Poller = crate::poller::Poller<Token>;

/// Whose descriptor something happened to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token {
    /// A command came.
    Bell,
    /// A deadline is here.
    Timer,
    /// A frame came for a seat.
    Seat(u32),
}

impl crate::poller::Token for Token {
    fn word(self) -> u64 {
        match self {
            Self::Bell => 0,
            Self::Timer => 1,
            Self::Seat(number) => 1 << 32 | u64::from(number),
        }
    }

    fn parse(word: u64) -> Option<Self> {
        match (word >> 32, word as u32) {
            (0, 0) => Some(Self::Bell),
            (0, 1) => Some(Self::Timer),
            (1, number) => Some(Self::Seat(number)),
            _ => None,
        }
    }
}

/// What is said to the loop.
pub(super) enum Command {
    /// Look after these and nobody else; with a container, of that one.
    Follow { container: Option<ContainerId>, wishes: Vec<LanWish>, reply: SyncSender<()> },
    /// Answer when the container has everything, or patience ends.
    Wait {
        container: ContainerId,
        patience: Duration,
        namespace: Option<OwnedFd>,
        reply: SyncSender<Result<(), String>>,
    },
    /// Give back what the container has.
    Release { container: ContainerId, network: Option<NetworkId>, reply: SyncSender<()> },
    /// The follower has done a job.
    Followed { place: Place, serial: u64, outcome: Result<(), String> },
}

struct Waiter {
    container: ContainerId,
    patience: Duration,
    until: Moment,
    reply: SyncSender<Result<(), String>>,
}

/// Everything the loop has.
pub(super) struct Loop {
    poller: Poller,
    bell: Arc<OwnedFd>,
    timer: OwnedFd,
    commands: Receiver<Command>,
    jobs: Sender<Job>,
    seats: BTreeMap<u32, Seat>,
    seats_max: usize,
    /// The last seat's.
    number: u32,
    /// The last job's.
    serial: u64,
    waiters: Vec<Waiter>,
    now: Moment,
}

impl Loop {
    pub(super) fn new(
        seats_max: usize,
        bell: Arc<OwnedFd>,
        commands: Receiver<Command>,
        jobs: Sender<Job>,
    ) -> io::Result<Self> {
        let poller = Poller::new()?;
        poller.add(&bell, Token::Bell, EventFlags::IN)?;
        // Goes on while the machine sleeps, as leases do.
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let timer = rustix::time::timerfd_create(TimerfdClockId::Boottime, flags)?;
        poller.add(&timer, Token::Timer, EventFlags::IN)?;
        let (seats, waiters, now) = (BTreeMap::new(), Vec::new(), since_boot());
        Ok(Self { poller, bell, timer, commands, jobs, seats, seats_max, number: 0, serial: 0, waiters, now })
    }

    /// Looks after clients for ever.
    pub(super) fn run(mut self) {
        loop {
            self.set_timer();
            let happened = self.poller.wait(None).unwrap_or_else(|error| {
                tracing::error!(%error, "cannot wait for DHCP servers");
                std::thread::sleep(PAUSE);
                Vec::new()
            });
            self.now = since_boot();
            for (token, _) in happened {
                match token {
                    Token::Bell => {
                        let _ = rustix::io::read(&self.bell, &mut [0; 8]);
                        while let Ok(command) = self.commands.try_recv() {
                            self.command(command);
                        }
                    }
                    Token::Timer => drop(rustix::io::read(&self.timer, &mut [0; 8])),
                    Token::Seat(number) => self.at(number, |seat, poller, now| seat.hear(poller, now)),
                }
            }
            self.tick();
            self.answer();
        }
    }

    fn set_timer(&self) {
        let waits = self.waiters.iter().map(|waiter| waiter.until);
        let next = self.seats.values().filter_map(Seat::deadline).chain(waits).min();
        // Zero would disarm it.
        let at = next.map_or(Duration::ZERO, |next| next.max(Duration::from_nanos(1)));
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        let value = Timespec::try_from(at).unwrap_or(zero);
        let setting = Itimerspec { it_interval: zero, it_value: value };
        if let Err(error) = rustix::time::timerfd_settime(&self.timer, TimerfdTimerFlags::ABSTIME, &setting) {
            tracing::error!(%error, "cannot set the timer of DHCP clients");
        }
    }

    fn tick(&mut self) {
        let due = |seat: &Seat| seat.deadline().is_some_and(|deadline| deadline <= self.now);
        let due: Vec<u32> = self.seats.iter().filter(|(_, seat)| due(seat)).map(|(number, _)| *number).collect();
        for number in due {
            self.at(number, |seat, poller, now| seat.tick(poller, now));
        }
    }

    fn at(&mut self, number: u32, act: impl FnOnce(&mut Seat, &Poller, Moment) -> Vec<Given>) {
        let Some(seat) = self.seats.get_mut(&number) else { return };
        for given in act(seat, &self.poller, self.now) {
            self.serial += 1;
            seat.standing = match given {
                Given::Four(None) | Given::Six(None) => Standing::Seeking,
                Given::Four(Some(_)) | Given::Six(Some(_)) | Given::Told(..) => Standing::Following(self.serial),
            };
            let job = Job { place: Place::of(&seat.wish), given, serial: self.serial };
            if self.jobs.send(job).is_err() {
                tracing::error!("nothing that is leased is put in place any more");
            }
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Follow { container, wishes, reply } => {
                self.follow(container, wishes);
                let _ = reply.send(());
            }
            Command::Wait { container, patience, namespace, reply } => {
                let of_container = self.numbers(|seat| seat.wish.container == container);
                let namespace = namespace.and_then(|fd| NetNs::from_fd(fd).ok());
                for number in of_container {
                    let own = namespace.as_ref().and_then(|namespace| namespace.try_clone().ok());
                    self.at(number, |seat, poller, now| seat.begin(own, poller, now));
                }
                self.waiters.push(Waiter { container, patience, until: self.now + patience, reply });
            }
            Command::Release { container, network, reply } => {
                let leaving = |wish: &LanWish| {
                    wish.container == container && network.is_none_or(|network| network == wish.network)
                };
                for number in self.numbers(|seat| leaving(&seat.wish)) {
                    if let Some(mut seat) = self.seats.remove(&number) {
                        seat.release(&self.poller, self.now);
                    }
                }
                let _ = reply.send(());
            }
            Command::Followed { place, serial, outcome } => self.followed(place, serial, outcome),
        }
    }

    fn numbers(&self, wanted: impl Fn(&Seat) -> bool) -> Vec<u32> {
        self.seats.iter().filter(|(_, seat)| wanted(seat)).map(|(number, _)| *number).collect()
    }

    fn follow(&mut self, container: Option<ContainerId>, wishes: Vec<LanWish>) {
        let meant = |wish: &LanWish| container.is_none_or(|container| container == wish.container);
        let stays = |seat: &Seat| wishes.iter().any(|wish| is_same(wish, &seat.wish));
        self.seats.retain(|_, seat| !meant(&seat.wish) || stays(seat));
        for wish in wishes {
            if self.seats.values().any(|seat| is_same(&wish, &seat.wish)) {
                continue;
            }
            if self.seats.len() >= self.seats_max {
                tracing::warn!(place = %Place::of(&wish), "too many DHCP clients: this one is not looked after");
                continue;
            }
            self.number = self.number.wrapping_add(1);
            let number = self.number;
            self.seats.insert(number, Seat::new(wish, Token::Seat(number)));
            self.at(number, |seat, poller, now| seat.begin(None, poller, now));
        }
    }

    fn followed(&mut self, place: Place, serial: u64, outcome: Result<(), String>) {
        for seat in self.seats.values_mut().filter(|seat| Place::of(&seat.wish) == place) {
            // A later job counts.
            if seat.standing == Standing::Following(serial) {
                seat.standing = outcome.clone().map_or_else(Standing::Failed, |()| Standing::There);
            }
        }
    }

    /// Tells those who wait for something that is there, or whose patience has ended.
    fn answer(&mut self) {
        let (seats, seats_max, now) = (&self.seats, self.seats_max, self.now);
        self.waiters.retain(|waiter| match verdict(seats, seats_max, waiter, now) {
            Some(verdict) => {
                let _ = waiter.reply.send(verdict);
                false
            }
            None => true,
        });
    }
}

fn is_same(a: &LanWish, b: &LanWish) -> bool {
    (Place::of(a), &a.link) == (Place::of(b), &b.link)
}

fn verdict(seats: &BTreeMap<u32, Seat>, seats_max: usize, waiter: &Waiter, now: Moment) -> Option<Result<(), String>> {
    // IPv6 comes when routers say so, if they ever do.
    let waited_for = |seat: &&Seat| seat.wish.container == waiter.container && seat.wish.ipv4();
    let mut of_container = seats.values().filter(waited_for).peekable();
    if of_container.peek().is_none() {
        return Some(Err(match seats.len() >= seats_max {
            true => format!("netd looks after {seats_max} DHCP clients already, and after no more"),
            false => "the container was taken off its networks meanwhile".to_owned(),
        }));
    }
    let mut missing = None;
    for seat in of_container {
        match &seat.standing {
            Standing::There => {}
            Standing::Failed(why) => return Some(Err(why.clone())),
            Standing::Seeking | Standing::Following(_) => missing = missing.or(Some(seat)),
        }
    }
    match missing {
        None => Some(Ok(())),
        Some(seat) if waiter.until <= now => Some(Err(no_lease(seat, waiter.patience))),
        Some(_) => None,
    }
}

fn no_lease(seat: &Seat, patience: Duration) -> String {
    let LanWish { network_name, link, .. } = &seat.wish;
    let seconds = patience.as_secs();
    match seat.trouble() {
        None => format!("no DHCP server answered on {link} (network {network_name}) within {seconds} seconds"),
        Some(why) => format!("no DHCP lease on {link} (network {network_name}) within {seconds} seconds: {why}"),
    }
}
