//! What the relay's process keeps once everything is in place; see docs/adr/0017.
//!
//! ```text
//!   begin()         namespaces of its own, no core files                            before there is a thread
//!   of_outside()    no root directory, no capability, no file      ──inherited──> outside · outbound · control
//!   of_inside()     NET_ADMIN, NET_BIND_SERVICE, no file           ──inherited──> datagrams · published
//!   of_all(count)   memory; system calls of all threads
//! ```
//!
//! A thread is where it will stay and starts no other when it is caged. The capabilities are those of the user's own
//! namespace: in the host's network namespace they are worth nothing.
//!
//! **Why these capabilities.** A socket that speaks as a client or as a peer has that one's address (IP_TRANSPARENT) and
//! our mark (SO_MARK): NET_ADMIN, which is also asked of who changes what containers' addresses mean (`table.rs`). That
//! one's port may be below 1024, as a name server's is: NET_BIND_SERVICE.
//!
//! **Limits.** What a kernel does not have is told of in the log and done without.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use linux::cage::{self, Call, Files, When};
use rustix::thread::CapabilitySet;

/// Memory in octets, for everything but connections: buffers, flows, stacks, and what the allocator wastes.
const MEMORY: u64 = 256 << 20;
/// Likewise for a connection.
const MEMORY_OF_CONNECTION: u64 = 2 << 10;

// include/uapi/asm-generic/ioctls.h
const TIOCOUTQ: u32 = 0x5411;
const FIONREAD: u32 = 0x541b;
const FIONBIO: u32 = 0x5421;

/// Leaves what is shared with others. The process has one thread.
pub(crate) fn begin() -> io::Result<()> {
    cage::leave_shared()?;
    cage::keep_secret()
}

/// The calling thread, and those that it will start: outside, where nothing but sockets is needed. `at` is a directory
/// that is there.
pub(crate) fn of_outside(at: &Path) -> io::Result<()> {
    cage::stand_nowhere(at)?;
    cage::keep_only(CapabilitySet::empty())?;
    no_files()
}

/// The calling thread, and those that it will start: in the relay's namespace.
pub(crate) fn of_inside() -> io::Result<()> {
    cage::keep_only(CapabilitySet::NET_ADMIN | CapabilitySet::NET_BIND_SERVICE)?;
    no_files()
}

/// All threads, with so many connections at most. Each has begun its work: what the C library does at the start of one is not allowed.
pub(crate) fn of_all(connections: usize) -> io::Result<()> {
    cage::limit_memory(MEMORY + MEMORY_OF_CONNECTION * connections as u64)?;
    // What only the start needed: most of what would be counted as the relay's memory.
    linux::process::forget_program_pages()?;
    calls_only(&calls())
}

/// The lookout's process.
pub(crate) fn of_lookout() -> io::Result<()> {
    cage::keep_secret()?;
    cage::keep_only(CapabilitySet::empty())?;
    if !cage::touch_files(Files::Read)? {
        tracing::debug!("the lookout has no Landlock");
    }
    cage::limit_memory(MEMORY)?;
    calls_only(&calls_of_lookout())
}

fn no_files() -> io::Result<()> {
    static TOLD: AtomicBool = AtomicBool::new(false);
    if !cage::touch_files(Files::None)? && !TOLD.swap(true, Ordering::Relaxed) {
        tracing::warn!("this kernel has no Landlock: the relay's cage is its empty root and its system calls");
    }
    Ok(())
}

fn calls_only(allowed: &[Call]) -> io::Result<()> {
    if !cage::call_only(allowed, DEADLY)? {
        tracing::warn!("this kernel has no seccomp filters: the relay may make all system calls");
    }
    Ok(())
}

/// Nobody but an intruder tries these.
const DEADLY: &[i64] = &[
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_open_by_handle_at,
    libc::SYS_bpf,
    libc::SYS_io_uring_setup,
    libc::SYS_userfaultfd,
    libc::SYS_perf_event_open,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_kexec_load,
];

/// What every Rust program does: memory, time, locks between threads, its end.
fn usual() -> Vec<Call> {
    let mut calls: Vec<Call> = [
        libc::SYS_read,
        libc::SYS_write,
        libc::SYS_close,
        libc::SYS_futex,
        libc::SYS_munmap,
        libc::SYS_mremap,
        libc::SYS_madvise,
        libc::SYS_brk,
        libc::SYS_clock_gettime,
        libc::SYS_clock_nanosleep,
        libc::SYS_getrandom,
        libc::SYS_sched_yield,
        libc::SYS_getpid,
        libc::SYS_gettid,
        libc::SYS_geteuid,
        libc::SYS_rt_sigaction,
        libc::SYS_rt_sigprocmask,
        libc::SYS_rt_sigreturn,
        libc::SYS_sigaltstack,
        libc::SYS_restart_syscall,
        // At the end of a thread.
        libc::SYS_rseq,
        libc::SYS_set_robust_list,
        libc::SYS_set_tid_address,
        libc::SYS_exit,
        libc::SYS_exit_group,
    ]
    .map(Call::always)
    .to_vec();
    let may_run = libc::PROT_EXEC.cast_unsigned();
    calls.extend([libc::SYS_mmap, libc::SYS_mprotect].map(|number| Call { number, when: When::Lacks(2, may_run) }));
    // To oneself: abort().
    let own = vec![std::process::id()];
    calls.extend([libc::SYS_tgkill, libc::SYS_kill].map(|number| Call { number, when: When::Is(0, own.clone()) }));
    let of_descriptors = [
        libc::F_GETFD,
        libc::F_SETFD,
        libc::F_GETFL,
        libc::F_SETFL,
        libc::F_DUPFD_CLOEXEC,
        libc::F_SETPIPE_SZ,
        libc::F_GETPIPE_SZ,
    ];
    calls.push(Call { number: libc::SYS_fcntl, when: When::Is(1, of_descriptors.map(i32::cast_unsigned).to_vec()) });
    calls
}

/// The relay's.
fn calls() -> Vec<Call> {
    let mut calls: Vec<Call> = [
        libc::SYS_splice,
        libc::SYS_recvfrom,
        libc::SYS_sendto,
        libc::SYS_recvmsg,
        libc::SYS_sendmsg,
        libc::SYS_recvmmsg,
        libc::SYS_sendmmsg,
        libc::SYS_readv,
        libc::SYS_writev,
        libc::SYS_epoll_ctl,
        libc::SYS_epoll_pwait,
        libc::SYS_epoll_pwait2,
        libc::SYS_ppoll,
        libc::SYS_bind,
        libc::SYS_connect,
        libc::SYS_listen,
        libc::SYS_accept4,
        libc::SYS_shutdown,
        libc::SYS_getsockname,
        libc::SYS_getpeername,
        libc::SYS_getsockopt,
        libc::SYS_pipe2,
        // The log's length.
        libc::SYS_pread64,
        libc::SYS_ftruncate,
    ]
    .map(Call::always)
    .to_vec();
    #[cfg(target_arch = "x86_64")]
    calls.extend([libc::SYS_epoll_wait, libc::SYS_poll].map(Call::always));
    let families = [libc::AF_INET, libc::AF_INET6].map(i32::cast_unsigned).to_vec();
    calls.extend([
        Call { number: libc::SYS_socket, when: When::Is(0, families) },
        // All but the tables of xtables and ebtables.
        Call { number: libc::SYS_setsockopt, when: When::IsNot(2, vec![64, 65, 96, 97, 128, 129]) },
        Call { number: libc::SYS_ioctl, when: When::Is(1, vec![FIONBIO, FIONREAD, TIOCOUTQ]) },
    ]);
    [calls, usual()].concat()
}

/// The lookout's: it reads files and writes to its socket.
fn calls_of_lookout() -> Vec<Call> {
    let mut calls: Vec<Call> = [
        libc::SYS_openat,
        libc::SYS_statx,
        libc::SYS_newfstatat,
        libc::SYS_fstat,
        libc::SYS_lseek,
        libc::SYS_readlinkat,
        libc::SYS_inotify_add_watch,
        libc::SYS_inotify_rm_watch,
        libc::SYS_recvmsg,
        libc::SYS_sendmsg,
        libc::SYS_ppoll,
    ]
    .map(Call::always)
    .to_vec();
    #[cfg(target_arch = "x86_64")]
    calls.extend(
        [libc::SYS_open, libc::SYS_stat, libc::SYS_lstat, libc::SYS_readlink, libc::SYS_poll].map(Call::always),
    );
    [calls, usual()].concat()
}

/// For tests: goes into the cage and does what is not done there. 0 when that fails, and that is all that happens; 1
/// when it can be done; 2 when there is no cage.
pub fn try_in_cage(what: &str) -> i32 {
    let directory = std::env::temp_dir();
    if let Err(error) = begin().and_then(|()| of_outside(&directory)).and_then(|()| of_all(1)) {
        eprintln!("no cage: {error}");
        return 2;
    }
    let done = match what {
        "read" => std::fs::read("/etc/passwd").map(drop),
        "list" => std::fs::read_dir("/").map(drop),
        "write" => std::fs::write("/file", "text"),
        "thread" => std::thread::Builder::new().spawn(|| ()).map(drop),
        "unix socket" => std::os::unix::net::UnixStream::pair().map(drop),
        "netlink socket" => netlink::Socket::open(netlink::Protocol::Route).map(drop),
        "epoll" => {
            rustix::event::epoll::create(rustix::event::epoll::CreateFlags::CLOEXEC).map(drop).map_err(Into::into)
        }
        "memory" => Vec::<u8>::new().try_reserve_exact(1 << 30).map_err(io::Error::other),
        "init" => {
            rustix::process::kill_process(rustix::process::Pid::INIT, rustix::process::Signal::CONT).map_err(Into::into)
        }
        "transparent" => std::net::UdpSocket::bind("127.0.0.1:0")
            .and_then(|socket| linux::transparent::set_transparent(&socket, true)),
        "unshare" => linux::mounts::enter_private_namespace(),
        "exec" => Err(std::os::unix::process::CommandExt::exec(&mut std::process::Command::new("/bin/true"))),
        // What the relay does do.
        "socket" => std::net::TcpListener::bind("127.0.0.1:0").map(drop),
        _ => return 2,
    };
    i32::from(done.is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_both_allowed_and_deadly() {
        for call in [calls(), calls_of_lookout()].concat() {
            assert!(!DEADLY.contains(&call.number), "{call:?}");
        }
    }
}
