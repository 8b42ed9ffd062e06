//! Tar archives written by hand, hostile ones among them.

use tar::{EntryType, Header};

/// A tar archive in the making; nothing of what it is told is checked.
pub(crate) struct Tar(Vec<u8>);

impl Tar {
    pub(crate) fn new() -> Self {
        Self(Vec::new())
    }

    pub(crate) fn file(self, path: &str, content: &[u8]) -> Self {
        self.entry(EntryType::Regular, path, "", 0o644, content)
    }

    pub(crate) fn dir(self, path: &str) -> Self {
        self.entry(EntryType::Directory, path, "", 0o755, b"")
    }

    pub(crate) fn symlink(self, path: &str, target: &str) -> Self {
        self.entry(EntryType::Symlink, path, target, 0o777, b"")
    }

    pub(crate) fn link(self, path: &str, target: &str) -> Self {
        self.entry(EntryType::Link, path, target, 0o644, b"")
    }

    pub(crate) fn device(self, path: &str, kind: EntryType, major: u32, minor: u32) -> Self {
        let mut header = Header::new_gnu();
        header.set_device_major(major).expect("a GNU header has device numbers");
        header.set_device_minor(minor).expect("a GNU header has device numbers");
        self.with(header, kind, path, "", 0o600, b"")
    }

    /// PAX records for the next entry; see [`pax_record`].
    pub(crate) fn pax(self, records: &[u8]) -> Self {
        self.entry(EntryType::XHeader, "pax", "", 0o644, records)
    }

    pub(crate) fn entry(self, kind: EntryType, path: &str, link: &str, mode: u32, content: &[u8]) -> Self {
        self.with(Header::new_gnu(), kind, path, link, mode, content)
    }

    fn with(mut self, mut header: Header, kind: EntryType, path: &str, link: &str, mode: u32, content: &[u8]) -> Self {
        if path.len() > 100 {
            self = self.entry(EntryType::GNULongName, "././@LongLink", "", 0o644, format!("{path}\0").as_bytes());
        }
        let short = &path.as_bytes()[..path.len().min(100)];
        header.as_old_mut().name[..short.len()].copy_from_slice(short);
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_700_000_000);
        header.set_size(content.len() as u64);
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub(crate) fn bytes(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}

/// `LENGTH KEY=VALUE\n`
pub(crate) fn pax_record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let length = (rest..).find(|length| length.to_string().len() + rest == *length).expect("a length exists");
    [length.to_string().as_bytes(), b" ", key.as_bytes(), b"=", value, b"\n"].concat()
}

/// Why tests that need root are skipped, printed so that it is seen; `true` when they can run.
pub(crate) fn root(test: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("SKIP {test}: needs root (device nodes, trusted.* attributes)");
    }
    root
}
