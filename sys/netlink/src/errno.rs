//! Why the kernel refused a message.

use std::fmt;
use std::io;

/// An error number, and the kernel's own words where it gave any (extended ack).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Errno {
    /// Positive, as in errno(3).
    pub code: i32,
    /// The extended ack's text; empty when there was none.
    pub text: String,
}

impl Errno {
    /// An error number without words.
    pub fn new(code: i32) -> Self {
        Self { code, text: String::new() }
    }

    /// Its symbolic name: `EEXIST`.
    pub fn name(&self) -> &'static str {
        NAMES.iter().find(|(code, _)| *code == self.code).map_or("an unknown error", |(_, name)| name)
    }
}

impl fmt::Display for Errno {
    /// `EEXIST: Device is already a member`; without the kernel's words, the C library's.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.text.is_empty() {
            return write!(f, "{}: {}", self.name(), self.text);
        }
        let words = io::Error::from_raw_os_error(self.code).to_string();
        let words = words.split(" (os error").next().unwrap_or_default();
        write!(f, "{}: {words}", self.name())
    }
}

impl std::error::Error for Errno {}

impl From<Errno> for io::Error {
    fn from(errno: Errno) -> Self {
        let kind = io::Error::from_raw_os_error(errno.code).kind();
        if errno.text.is_empty() { Self::from_raw_os_error(errno.code) } else { Self::new(kind, errno) }
    }
}

impl From<io::Error> for Errno {
    /// The way back; an error that is no system call's becomes `EINVAL` or `EIO` with its own words.
    fn from(error: io::Error) -> Self {
        if let Some(errno) = error.get_ref().and_then(|inner| inner.downcast_ref::<Self>()) {
            return errno.clone();
        }
        match error.raw_os_error() {
            Some(code) => Self::new(code),
            None if error.kind() == io::ErrorKind::InvalidInput => Self { code: libc::EINVAL, text: error.to_string() },
            None => Self { code: libc::EIO, text: error.to_string() },
        }
    }
}

impl Errno {
    /// The error number in an [`io::Error`] that a [`crate::Socket`] returned; 0 when it has none.
    pub fn code_of(error: &io::Error) -> i32 {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Self>());
        inner.map_or(error.raw_os_error().unwrap_or_default(), |errno| errno.code)
    }
}

macro_rules! names {
    ($($name:ident)*) => { &[$((libc::$name, stringify!($name))),*] };
}

/// What netlink, nf_tables and the file system answer with.
const NAMES: &[(i32, &str)] = names![
    EPERM ENOENT ESRCH EINTR EIO ENXIO E2BIG EBADF EAGAIN ENOMEM EACCES EFAULT EBUSY EEXIST EXDEV ENODEV
    ENOTDIR EISDIR EINVAL ENFILE EMFILE ENOTTY EFBIG ENOSPC EROFS EMLINK EDOM ERANGE ENAMETOOLONG ENOSYS
    ELOOP EPROTO EOVERFLOW EMSGSIZE EPROTONOSUPPORT EOPNOTSUPP EPFNOSUPPORT EAFNOSUPPORT EADDRINUSE
    EADDRNOTAVAIL ENETDOWN ENETUNREACH ENOBUFS EISCONN ENOTCONN ETIMEDOUT EHOSTDOWN EHOSTUNREACH EALREADY
    ENOTUNIQ EXFULL ENODATA ENOPROTOOPT ESTALE EDQUOT ECANCELED EBADMSG ENOTEMPTY
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_errno_says_its_name_and_the_kernels_words() {
        assert_eq!(Errno::new(libc::EEXIST).to_string(), "EEXIST: File exists");
        let errno = Errno { code: libc::EINVAL, text: "Nexthop has invalid gateway".into() };
        assert_eq!(errno.to_string(), "EINVAL: Nexthop has invalid gateway");
        let error = io::Error::from(errno.clone());
        assert_eq!((error.to_string().as_str(), Errno::code_of(&error)), ("EINVAL: Nexthop has invalid gateway", 22));
        assert_eq!(Errno::from(error), errno);
        assert_eq!(io::Error::from(Errno::new(libc::ENODEV)).raw_os_error(), Some(libc::ENODEV));
    }
}
