//! Which devices the processes of a control group may open: a program in the kernel that is asked each time (bpf(2),
//! `BPF_PROG_TYPE_CGROUP_DEVICE`; Documentation/admin-guide/cgroup-v2.rst, "Device controller").
//!
//! Hand-made code: a dozen instructions and some for each rule, for which no compiler is worth having.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use serde::{Deserialize, Serialize};

/// Devices that may be used, and how; where nothing is said, any.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRule {
    /// Character or block devices.
    pub kind: Option<DeviceKind>,
    /// By major number.
    pub major: Option<u32>,
    /// By minor number.
    pub minor: Option<u32>,
    /// Some of `r`, `w` and, for making a file of it, `m`.
    pub access: String,
}

/// Which of the two number spaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeviceKind {
    /// Block devices.
    Block,
    /// Character devices.
    Char,
}

impl DeviceRule {
    /// As version 1 takes it: `c 1:3 rwm`. Several lines, where either kind is meant: there is no other word for that
    /// which also names numbers.
    pub(crate) fn lines(&self) -> Vec<String> {
        let number = |n: Option<u32>| n.map_or_else(|| "*".to_owned(), |n| n.to_string());
        let kinds: &[char] = match self.kind {
            Some(DeviceKind::Block) => &['b'],
            Some(DeviceKind::Char) => &['c'],
            None => &['b', 'c'],
        };
        let line = |kind: &char| format!("{kind} {}:{} {}", number(self.major), number(self.minor), self.access);
        kinds.iter().map(line).collect()
    }

    /// `BPF_DEVCG_ACC_*`
    fn access_bits(&self) -> i32 {
        self.access
            .chars()
            .map(|c| [('m', 1), ('r', 2), ('w', 4)].iter().find(|(l, _)| *l == c).map_or(0, |x| x.1))
            .sum()
    }
}

/// One instruction (`struct bpf_insn`).
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Instruction {
    code: u8,
    /// Source register in the upper half, destination in the lower.
    registers: u8,
    offset: i16,
    immediate: i32,
}

impl Instruction {
    const fn new(code: u8, destination: u8, source: u8, offset: i16, immediate: i32) -> Self {
        Self { code, registers: (source << 4) | destination, offset, immediate }
    }
}

// linux/bpf_common.h and linux/bpf.h: class, source and operation are or-ed.
const LOAD_WORD: u8 = 0x61; // BPF_LDX | BPF_MEM | BPF_W
const MOVE: u8 = 0xbc; // BPF_ALU | BPF_MOV | BPF_X
const SET: u8 = 0xb4; // BPF_ALU | BPF_MOV | BPF_K
const AND: u8 = 0x54; // BPF_ALU | BPF_AND | BPF_K
const SHIFT_RIGHT: u8 = 0x74; // BPF_ALU | BPF_RSH | BPF_K
const JUMP_UNLESS: u8 = 0x56; // BPF_JMP32 | BPF_JNE | BPF_K
const JUMP_UNLESS_SAME: u8 = 0x5e; // BPF_JMP32 | BPF_JNE | BPF_X
const EXIT: u8 = 0x95; // BPF_JMP | BPF_EXIT

const RESULT: u8 = 0;
const CONTEXT: u8 = 1;
const KIND: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;

/// Allows what one of the rules allows.
fn program(rules: &[DeviceRule]) -> Vec<Instruction> {
    // struct bpf_cgroup_dev_ctx: access << 16 | kind, major, minor.
    let mut all = vec![
        Instruction::new(LOAD_WORD, KIND, CONTEXT, 0, 0),
        Instruction::new(MOVE, ACCESS, KIND, 0, 0),
        Instruction::new(SHIFT_RIGHT, ACCESS, 0, 0, 16),
        Instruction::new(AND, KIND, 0, 0, 0xffff),
        Instruction::new(LOAD_WORD, MAJOR, CONTEXT, 4, 0),
        Instruction::new(LOAD_WORD, MINOR, CONTEXT, 8, 0),
    ];
    for rule in rules {
        let mut block = Vec::new();
        if let Some(kind) = rule.kind {
            let number = if kind == DeviceKind::Block { 1 } else { 2 };
            block.push(Instruction::new(JUMP_UNLESS, KIND, 0, 0, number));
        }
        // What is asked for must be no more than what is allowed. The context has been read by now.
        block.push(Instruction::new(MOVE, CONTEXT, ACCESS, 0, 0));
        block.push(Instruction::new(AND, CONTEXT, 0, 0, rule.access_bits()));
        block.push(Instruction::new(JUMP_UNLESS_SAME, CONTEXT, ACCESS, 0, 0));
        for (register, number) in [(MAJOR, rule.major), (MINOR, rule.minor)] {
            block.extend(number.map(|n| Instruction::new(JUMP_UNLESS, register, 0, 0, n.cast_signed())));
        }
        block.push(Instruction::new(SET, RESULT, 0, 0, 1));
        block.push(Instruction::new(EXIT, 0, 0, 0, 0));
        let end = block.len();
        for (n, instruction) in block.iter_mut().enumerate() {
            if matches!(instruction.code, JUMP_UNLESS | JUMP_UNLESS_SAME) {
                instruction.offset = i16::try_from(end - n - 1).unwrap_or(i16::MAX);
            }
        }
        all.append(&mut block);
    }
    all.push(Instruction::new(SET, RESULT, 0, 0, 0));
    all.push(Instruction::new(EXIT, 0, 0, 0, 0));
    all
}

/// The first fields of `union bpf_attr` for `BPF_PROG_LOAD`; the kernel takes those it is not given for 0.
#[repr(C)]
struct Load {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
}

/// Likewise, for `BPF_PROG_ATTACH`.
#[repr(C)]
struct Attach {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
}

const PROG_LOAD: libc::c_long = 5;
const PROG_ATTACH: libc::c_long = 8;
const PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const CGROUP_DEVICE: u32 = 6;
/// Those of groups above count beside ours.
const ALLOW_MULTI: u32 = 2;

/// From now on the processes of the group, a directory of the version 2 tree, may use these devices alone.
pub(crate) fn attach(group: impl AsFd, rules: &[DeviceRule]) -> io::Result<()> {
    let code = program(rules);
    let load = Load {
        kind: PROG_TYPE_CGROUP_DEVICE,
        count: u32::try_from(code.len()).map_err(io::Error::other)?,
        instructions: code.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
        kernel_version: 0,
        flags: 0,
    };
    // SAFETY: `load` and what it points to (`code`, a literal) outlive the call, and the size is that of `load`.
    let made = unsafe { libc::syscall(libc::SYS_bpf, PROG_LOAD, &raw const load, size_of::<Load>()) };
    let made = i32::try_from(made).ok().filter(|fd| *fd >= 0).ok_or_else(io::Error::last_os_error)?;
    // SAFETY: the kernel has just made the descriptor, for us alone; close-on-exec, as all of bpf(2) are.
    let program = unsafe { OwnedFd::from_raw_fd(made) };
    let attach = Attach {
        target: group.as_fd().as_raw_fd().cast_unsigned(),
        program: program.as_raw_fd().cast_unsigned(),
        kind: CGROUP_DEVICE,
        flags: ALLOW_MULTI,
    };
    // SAFETY: `attach` outlives the call, and the size is its own; both descriptors are open.
    let done = unsafe { libc::syscall(libc::SYS_bpf, PROG_ATTACH, &raw const attach, size_of::<Attach>()) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(kind: Option<DeviceKind>, major: Option<u32>, minor: Option<u32>, access: &str) -> DeviceRule {
        DeviceRule { kind, major, minor, access: access.to_owned() }
    }

    #[test]
    fn rules_are_version_1s_lines() {
        assert_eq!(rule(Some(DeviceKind::Char), Some(1), Some(3), "rwm").lines(), ["c 1:3 rwm"]);
        assert_eq!(rule(None, None, None, "m").lines(), ["b *:* m", "c *:* m"]);
        assert_eq!(rule(Some(DeviceKind::Block), Some(8), None, "r").lines(), ["b 8:* r"]);
    }

    /// The few instructions there are, interpreted.
    fn allows(rules: &[DeviceRule], kind: u32, major: u32, minor: u32, access: u32) -> bool {
        let code = program(rules);
        let context = [(access << 16) | kind, major, minor];
        let mut registers = [0_u32; 6];
        let mut at = 0;
        loop {
            let Instruction { code, registers: pair, offset, immediate } = code[at];
            let (to, from) = (usize::from(pair & 15), usize::from(pair >> 4));
            at += 1;
            match code {
                LOAD_WORD => registers[to] = context[usize::try_from(offset / 4).unwrap()],
                MOVE => registers[to] = registers[from],
                SET => registers[to] = immediate.cast_unsigned(),
                AND => registers[to] &= immediate.cast_unsigned(),
                SHIFT_RIGHT => registers[to] >>= immediate,
                JUMP_UNLESS if registers[to] != immediate.cast_unsigned() => at += usize::try_from(offset).unwrap(),
                JUMP_UNLESS_SAME if registers[to] != registers[from] => at += usize::try_from(offset).unwrap(),
                JUMP_UNLESS | JUMP_UNLESS_SAME => {}
                EXIT => return registers[0] == 1,
                other => panic!("{other:#x}"),
            }
        }
    }

    #[test]
    fn what_no_rule_allows_is_refused() {
        const BLOCK: u32 = 1;
        const CHAR: u32 = 2;
        const READ: u32 = 2;
        const WRITE: u32 = 4;
        let rules = [
            rule(None, None, None, "m"),
            rule(Some(DeviceKind::Char), Some(1), Some(3), "rwm"),
            rule(Some(DeviceKind::Block), Some(8), None, "r"),
        ];
        assert!(allows(&rules, CHAR, 1, 3, READ | WRITE));
        assert!(!allows(&rules, BLOCK, 1, 3, READ), "null's numbers are another block device's");
        assert!(!allows(&rules, CHAR, 1, 5, READ));
        assert!(allows(&rules, CHAR, 9, 9, 1), "any file may be made");
        assert!(allows(&rules, BLOCK, 8, 77, READ));
        assert!(!allows(&rules, BLOCK, 8, 77, WRITE) && !allows(&rules, BLOCK, 8, 77, READ | WRITE));
        assert!(!allows(&[], CHAR, 1, 3, READ));
    }
}
