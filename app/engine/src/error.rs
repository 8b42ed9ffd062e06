//! Errors for a reader: what was tried, whose turn it is, and the exit code scripts look at.

/// What callers act on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The command line or a file is wrong, or anything else without a code of its own: 125.
    Usage,
    /// No such container, image or network: 125, or 1 where Podman says so (`exists`, `network rm`, `rm`, `rmi`).
    NotFound,
    /// The container is in the wrong state for this: 125, or 255 where Podman says so (`exec`), 2 (`rm`).
    WrongState,
    /// The container, image or network is in use: 125, or 2 where Podman says so (`network rm`, `rmi`, `rm`).
    InUse,
    /// The container could not be started (port taken, address taken, command not executable): 126.
    CannotStart,
    /// The command was not found in the container: 127.
    CommandNotFound,
}

/// One line that says what was wrong, and the exit code.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// What callers act on.
    pub kind: Kind,
    /// What was wrong and what would be right, without `Error: `.
    pub message: String,
}

impl Error {
    /// An error of `kind`.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// The command line, a file or the machine is wrong.
    pub fn usage(message: impl std::fmt::Display) -> Self {
        Self::new(Kind::Usage, message.to_string())
    }

    /// A container's start was refused.
    pub(crate) fn cannot_start(message: impl std::fmt::Display) -> Self {
        Self::new(Kind::CannotStart, message.to_string())
    }

    /// What was tried when the system refused.
    pub fn at(what: impl std::fmt::Display, source: impl std::fmt::Display) -> Self {
        Self::new(Kind::Usage, format!("{what}: {source}"))
    }

    /// The exit code of most commands for this kind (125, 126 or 127).
    pub fn exit_code(&self) -> u8 {
        match self.kind {
            Kind::Usage | Kind::NotFound | Kind::WrongState | Kind::InUse => 125,
            Kind::CannotStart => 126,
            Kind::CommandNotFound => 127,
        }
    }
}

impl From<store::StoreError> for Error {
    fn from(error: store::StoreError) -> Self {
        Self::usage(error)
    }
}

impl From<images::ImageError> for Error {
    fn from(error: images::ImageError) -> Self {
        let kind = match &error {
            images::ImageError::NotKnown(_) => Kind::NotFound,
            images::ImageError::InUse { .. } => Kind::InUse,
            _ => Kind::Usage,
        };
        Self::new(kind, error.to_string())
    }
}

impl From<model::Invalid> for Error {
    fn from(invalid: model::Invalid) -> Self {
        Self::usage(invalid)
    }
}

/// The engine's results.
pub type Result<T, E = Error> = std::result::Result<T, E>;
