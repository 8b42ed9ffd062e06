//! How a command ends: an exit code, after at most one message.

use std::fmt;
use std::io;

/// What a command returns.
pub(crate) type Outcome = Result<u8, Failure>;

/// A command that could not do what was asked.
#[derive(Debug)]
pub(crate) struct Failure {
    /// The exit code.
    pub(crate) code: u8,
    /// Printed after `Error: `; empty when everything has been said.
    pub(crate) message: String,
}

/// Podman's code for "podwire itself could not do it".
pub(crate) const USAGE: u8 = 125;

/// As if SIGPIPE had ended us: nobody reads our output any more, so nothing is said.
const BROKEN_PIPE: u8 = 128 + 13;

impl Failure {
    /// A message and Podman's exit code for everything without a code of its own.
    pub(crate) fn new(message: impl fmt::Display) -> Self {
        Self::with(USAGE, message)
    }

    pub(crate) fn with(code: u8, message: impl fmt::Display) -> Self {
        Self { code, message: message.to_string() }
    }
}

impl From<engine::Error> for Failure {
    fn from(error: engine::Error) -> Self {
        Self::with(error.exit_code(), error)
    }
}

impl From<images::ImageError> for Failure {
    fn from(error: images::ImageError) -> Self {
        Self::new(error)
    }
}

impl From<model::Invalid> for Failure {
    fn from(invalid: model::Invalid) -> Self {
        Self::new(invalid)
    }
}

impl From<String> for Failure {
    fn from(message: String) -> Self {
        Self::new(message)
    }
}

impl From<crate::template::TemplateError> for Failure {
    fn from(error: crate::template::TemplateError) -> Self {
        Self::new(error)
    }
}

impl From<io::Error> for Failure {
    /// Errors of our own output.
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self { code: BROKEN_PIPE, message: String::new() };
        }
        Self::new(error)
    }
}

/// The system's reason without Rust's `(os error 2)`.
pub(crate) fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    match text.rfind(" (os error ") {
        Some(at) => text[..at].to_owned(),
        None => text,
    }
}
