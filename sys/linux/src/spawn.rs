//! Starting other programs with exactly what they should have.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};

use rustix::mount::{MountPropagationFlags, mount_bind, mount_change};
use rustix::process::{Pid, getpid, getppid};

use crate::mounts::CGROUP2_MAGIC;

/// A program to start. It has standard input, output and error as its [`Command`] says, the descriptors
/// given here, and no other, whatever this process itself was started with, and no signal blocked.
///
/// ```text
///   Spawn::new("/proc/self/exe") ─ fd(3, status) ─ keep(ports) ─ new_session() ──spawn──> Child
/// ```
pub struct Spawn {
    command: Command,
    at: Vec<(OwnedFd, RawFd)>,
    kept: Vec<OwnedFd>,
    joined: Vec<OwnedFd>,
    session: bool,
    bound_to_us: bool,
    runtime_mounts: bool,
}

impl Spawn {
    /// The program at `program`, looked for in PATH when it has no slash.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        let command = Command::new(program);
        Self {
            command,
            at: Vec::new(),
            kept: Vec::new(),
            joined: Vec::new(),
            session: false,
            bound_to_us: false,
            runtime_mounts: false,
        }
    }

    /// This binary again, under another name (`argv[0]`), in a session of its own, in the root directory, with PATH
    /// and nothing else of our environment.
    pub fn ourselves(name: &str) -> Self {
        let mut call = Self::new("/proc/self/exe");
        call.new_session();
        call.command().arg0(name).current_dir("/").env_clear();
        call.command().envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
        call
    }

    /// Arguments, environment, working directory and standard streams.
    pub fn command(&mut self) -> &mut Command {
        &mut self.command
    }

    /// The child has `fd` under `number`, which is 3 or more.
    pub fn fd(&mut self, number: RawFd, fd: impl Into<OwnedFd>) -> &mut Self {
        assert!(number > 2, "0 to 2 are the command's standard streams");
        self.at.push((fd.into(), number));
        self
    }

    /// The child has these under whatever numbers: only to keep them open, as held ports.
    pub fn keep(&mut self, fds: impl IntoIterator<Item = OwnedFd>) -> &mut Self {
        self.kept.extend(fds);
        self
    }

    /// The child is in the control groups that have these doors ([`crate::cgroups::Group::doors`]).
    pub fn join(&mut self, doors: impl IntoIterator<Item = OwnedFd>) -> &mut Self {
        self.joined.extend(doors);
        self
    }

    /// The child leads a session of its own: no controlling terminal, no signals from ours.
    pub fn new_session(&mut self) -> &mut Self {
        self.session = true;
        self
    }

    /// The child is killed when the *thread* that starts it ends (PR_SET_PDEATHSIG).
    pub fn dies_with_us(&mut self) -> &mut Self {
        self.bound_to_us = true;
        self
    }

    /// The child has a mount namespace of its own, in which /sys/fs/cgroup is a version 2 control group
    /// tree: OCI runtimes refuse hosts on which it is a mixture.
    pub fn runtime_mounts(&mut self) -> &mut Self {
        self.runtime_mounts = true;
        self
    }

    /// Starts it. An error is the start's own: no such program, not executable, a refused mount. This
    /// process's copies of the descriptors are closed either way.
    pub fn spawn(mut self) -> io::Result<Child> {
        let first_free = self.at.iter().map(|(_, number)| number + 1).max().unwrap_or(3);
        for fd in self.at.iter_mut().map(|(fd, _)| fd).chain(&mut self.kept) {
            // Out of the way of the numbers that will be given.
            if fd.as_raw_fd() < first_free {
                *fd = rustix::io::fcntl_dupfd_cloexec(&*fd, first_free)?;
            }
        }
        let reserved = at_numbers(&self.at)?;
        let Self { mut command, at, kept, joined, session, bound_to_us, runtime_mounts } = self;
        let parent = getpid();
        let prepare = move || {
            unblock_signals()?;
            for door in &joined {
                rustix::io::write(door, b"0")?;
            }
            pass(&at, &kept)?;
            if session {
                rustix::process::setsid()?;
            }
            if bound_to_us {
                die_with(parent)?;
            }
            if runtime_mounts {
                private_mounts()?;
            }
            Ok(())
        };
        // SAFETY: `prepare` runs between fork and exec, where only async-signal-safe calls are allowed, for
        // another thread may have held a lock (the allocator's) when we forked. It makes system calls
        // directly, allocates nothing (paths are C strings already), takes no lock, and only reads what it
        // captured.
        unsafe { command.pre_exec(prepare) };
        let child = command.spawn();
        drop(reserved);
        child
    }
}

/// Occupies the numbers that the child will be given, so that the pipe by which the standard library learns
/// of a failed exec gets another one and is not overwritten in the child.
fn at_numbers(at: &[(OwnedFd, RawFd)]) -> io::Result<Vec<OwnedFd>> {
    // A number in use already makes this another one, which is as good as none.
    at.iter().map(|(fd, number)| Ok(rustix::io::fcntl_dupfd_cloexec(fd, *number)?)).collect()
}

/// The standard library hands our blocked signals on to the child, which would then not hear SIGTERM.
fn unblock_signals() -> io::Result<()> {
    let mut none = std::mem::MaybeUninit::uninit();
    // SAFETY: sigemptyset initialises the set it is given, sigprocmask reads it; the earlier mask is not asked
    // for. Between fork and exec there is one thread only, so the process's mask is that thread's.
    let done = unsafe {
        libc::sigemptyset(none.as_mut_ptr());
        libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr(), std::ptr::null_mut())
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Marks every descriptor from 3 on close-on-exec except those to be passed.
fn pass(at: &[(OwnedFd, RawFd)], kept: &[OwnedFd]) -> io::Result<()> {
    close_on_exec_from(3)?;
    for (fd, number) in at {
        // SAFETY: dup2 takes two numbers. It closes what has `number` in the child, where nobody uses it: the
        // one descriptor still needed, the standard library's exec-error pipe, has another (see `at_numbers`).
        if unsafe { libc::dup2(fd.as_raw_fd(), *number) } == -1 {
            return Err(io::Error::last_os_error());
        }
    }
    for fd in kept {
        rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::empty())?;
    }
    Ok(())
}

fn close_on_exec_from(first: u32) -> io::Result<()> {
    // SAFETY: close_range with CLOSE_RANGE_CLOEXEC only sets a flag on descriptors; it closes none.
    let done = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The descriptors that this process was given (3 and up), from now on kept from the programs it starts. For
/// the first line of a process started with [`Spawn::keep`].
pub fn take_inherited() -> io::Result<Vec<OwnedFd>> {
    let numbers: Vec<RawFd> = std::fs::read_dir("/proc/self/fd")?
        .map(|entry| Ok(entry?.file_name().to_str().and_then(|name| name.parse().ok())))
        .filter_map(io::Result::transpose)
        .collect::<io::Result<_>>()?;
    // Whatever is opened here closes on exec from its first moment.
    // SAFETY: fcntl with F_GETFD takes a number, and fails when it is no descriptor, as the directory's now.
    let given = |number: &RawFd| *number > 2 && unsafe { libc::fcntl(*number, libc::F_GETFD) } == 0;
    let given: Vec<RawFd> = numbers.into_iter().filter(given).collect();
    close_on_exec_from(3)?;
    // SAFETY: open, as F_GETFD has said, and nobody's: it was not opened by this process, and has not been
    // taken before, for then it would close on exec.
    Ok(given.into_iter().map(|number| unsafe { OwnedFd::from_raw_fd(number) }).collect())
}

pub(crate) fn die_with(parent: Pid) -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    // It may have ended before the line above.
    if getppid() == Some(parent) { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::ESRCH)) }
}

fn private_mounts() -> io::Result<()> {
    crate::netns::unshare(rustix::thread::UnshareFlags::NEWNS)?;
    mount_change(c"/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)?;
    let kind = |path| rustix::fs::statfs(path).map(|fs| fs.f_type as u64);
    match kind(c"/sys/fs/cgroup") {
        Ok(CGROUP2_MAGIC) | Err(_) => return Ok(()),
        Ok(_) => {}
    }
    // A mixture has the version 2 tree here. Mounting it anew costs an RCU grace period, about 10 ms.
    if kind(c"/sys/fs/cgroup/unified") == Ok(CGROUP2_MAGIC) {
        return Ok(mount_bind(c"/sys/fs/cgroup/unified", c"/sys/fs/cgroup")?);
    }
    match crate::mounts::mount_cgroup2(c"/sys/fs/cgroup") {
        // In a user namespace: the runtime says itself whether it can do without.
        Err(rustix::io::Errno::PERM | rustix::io::Errno::BUSY) => Ok(()),
        done => Ok(done?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{alone, needs_root};
    use std::io::{Read, Seek, Write};
    use std::process::Stdio;

    fn file_with(text: &str) -> OwnedFd {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file.rewind().unwrap();
        file.into()
    }

    fn output(mut spawn: Spawn) -> String {
        spawn.command().stdout(Stdio::piped());
        let mut child = spawn.spawn().unwrap();
        let mut text = String::new();
        child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
        assert!(child.wait().unwrap().success());
        text
    }

    #[test]
    fn a_child_has_its_descriptors_under_their_numbers_and_no_other() {
        let _guard = crate::testing::starting_programs();
        let leaky = file_with("");
        rustix::io::fcntl_setfd(&leaky, rustix::io::FdFlags::empty()).unwrap();
        let kept = rustix::io::fcntl_dupfd_cloexec(file_with(""), 500).unwrap();
        let number = kept.as_raw_fd();
        let with = |program, arguments: &[&str], kept| {
            let mut spawn = Spawn::new(program);
            spawn.command().args(arguments);
            spawn.fd(3, file_with("three ")).fd(4, file_with("four")).keep(kept);
            output(spawn)
        };
        assert_eq!(with("sh", &["-c", "cat <&3; cat <&4"], None), "three four");
        // 5 is the listed directory itself.
        assert_eq!(with("ls", &["-v", "/proc/self/fd"], Some(kept)), format!("0\n1\n2\n3\n4\n5\n{number}\n"));
    }

    #[test]
    fn what_was_given_is_taken_once_and_what_was_opened_here_never() {
        let _guard = crate::testing::starting_programs();
        let opened = file_with("");
        let given = rustix::io::fcntl_dupfd_cloexec(file_with(""), 500).unwrap();
        rustix::io::fcntl_setfd(&given, rustix::io::FdFlags::empty()).unwrap();
        let number = std::os::fd::IntoRawFd::into_raw_fd(given);
        let numbers = |taken: &[OwnedFd]| taken.iter().map(AsRawFd::as_raw_fd).collect::<Vec<_>>();
        let taken = take_inherited().unwrap();
        assert!(numbers(&taken).contains(&number) && !numbers(&taken).contains(&opened.as_raw_fd()));
        assert!(numbers(&take_inherited().unwrap()).is_empty());
        // The test runner may have been given some of its own, which it needs.
        taken.into_iter().filter(|fd| fd.as_raw_fd() != number).for_each(std::mem::forget);
    }

    #[test]
    fn descriptors_whose_numbers_cross_are_not_mixed_up() {
        let _guard = crate::testing::starting_programs();
        let (a, b) = (file_with("a"), file_with("b"));
        let (for_a, for_b) = (b.as_raw_fd(), a.as_raw_fd());
        let mut spawn = Spawn::new("sh");
        spawn.command().args(["-c", &format!("cat /proc/self/fd/{for_a} /proc/self/fd/{for_b}")]);
        spawn.fd(for_a, a).fd(for_b, b);
        assert_eq!(output(spawn), "ab");
    }

    #[test]
    fn a_program_that_cannot_start_is_an_error_even_with_descriptors() {
        let _guard = crate::testing::starting_programs();
        let refused = |number| {
            let mut spawn = Spawn::new("/nonexistent");
            spawn.fd(number, file_with(""));
            spawn.spawn().is_err_and(|e| e.kind() == io::ErrorKind::NotFound)
        };
        for number in 3..12 {
            // Another test of this process may close just this number between two calls; not every time.
            assert!((0..5).any(|_| refused(number)), "{number}");
        }
    }

    #[test]
    fn a_runtime_sees_a_version_2_tree_and_the_host_does_not_see_its_mounts() {
        let _guard = crate::testing::starting_programs();
        needs_root!();
        alone(|| {
            let mounts = || std::fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
            let before = mounts();
            let mut spawn = Spawn::new("sh");
            spawn.command().args(["-c", "stat -f -c %T /sys/fs/cgroup; mount -t tmpfs none /run"]);
            spawn.runtime_mounts();
            assert_eq!(output(spawn), "cgroup2fs\n");
            assert_eq!(mounts(), before);
        });
    }

    #[test]
    fn a_child_hears_the_signals_that_are_blocked_here() {
        let _guard = crate::testing::starting_programs();
        let _blocked = crate::SignalFd::block(&[crate::Signal::TERM]).unwrap();
        let mut spawn = Spawn::new("sh");
        spawn.command().args(["-c", "kill -TERM $$; sleep 1; echo deaf"]);
        let status = spawn.spawn().unwrap().wait().unwrap();
        assert_eq!(crate::process::exit_code(status), 143);
    }

    #[test]
    fn a_session_of_its_own_has_no_part_in_ours() {
        let _guard = crate::testing::starting_programs();
        let mut spawn = Spawn::new("sh");
        spawn.command().args(["-c", "cut -d' ' -f6 /proc/$$/stat; echo $$"]);
        spawn.new_session().dies_with_us();
        let text = output(spawn);
        let mut lines = text.lines();
        assert_eq!(lines.next(), lines.next(), "session and process have one number");
    }
}
