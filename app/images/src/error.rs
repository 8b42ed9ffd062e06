//! Errors for a reader: one line each, in Podman's words where Podman has words.

use std::io;
use std::path::{Path, PathBuf};

use model::{ContainerId, ImageId};

/// Why something about images could not be done. Variants are for callers who act differently.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// No such image on this machine. Podman's exit code is 1 for `rmi` and `image exists`, 125 elsewhere.
    #[error("{0}: image not known")]
    NotKnown(String),
    /// The beginning of an id fits several images.
    #[error("image name {0:?} fits several images; give more digits of its id")]
    Ambiguous(String),
    /// A container needs the image: exit code 2.
    #[error(
        "image used by {}: image is in use by a container: consider listing external containers and force-removing image",
        .containers.first().map(ToString::to_string).unwrap_or_default()
    )]
    InUse {
        /// The image.
        image: ImageId,
        /// Who uses it; at least one.
        containers: Vec<ContainerId>,
    },
    /// `rmi ID` of an image with several names and without `--force`.
    #[error("unable to delete image {:?} by ID with more than one tag ([{}]): please force removal", .image.to_string(), .names.join(" "))]
    SeveralNames {
        /// The image.
        image: ImageId,
        /// All its names.
        names: Vec<String>,
    },
    /// A name or option was typed wrongly; the sentence says how.
    #[error("{0}")]
    Invalid(String),
    /// The registry or the way to it; `transient` errors may be gone when tried again.
    #[error("{message}")]
    Registry {
        /// The whole sentence.
        message: String,
        /// Is it worth trying again?
        transient: bool,
    },
    /// What came is not what was promised or not what it should be: a digest, a manifest, an archive, a layer.
    #[error("{0}")]
    Content(String),
    /// A file of ours could not be written or read.
    #[error("{}: {}", .path.display(), plain(.source))]
    File {
        /// Which file or directory.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Whoever reads what we write went away, or its disk is full.
    #[error("{}", plain(.0))]
    Output(io::Error),
    /// The store.
    #[error(transparent)]
    Store(#[from] store::StoreError),
}

impl ImageError {
    /// The error of a system call on `path`.
    pub(crate) fn file(path: impl AsRef<Path>, source: impl Into<io::Error>) -> Self {
        Self::File { path: path.as_ref().to_owned(), source: source.into() }
    }

    /// `message`: then this error.
    pub(crate) fn within(self, message: &str) -> Self {
        match self {
            Self::Content(text) => Self::Content(format!("{message}: {text}")),
            Self::Invalid(text) => Self::Invalid(format!("{message}: {text}")),
            Self::Registry { message: text, transient } => {
                Self::Registry { message: format!("{message}: {text}"), transient }
            }
            other => other,
        }
    }
}

/// The results of this crate.
pub type Result<T, E = ImageError> = std::result::Result<T, E>;

/// `No space left on device` rather than Rust's `No space left on device (os error 28)`.
pub(crate) fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    match text.rfind(" (os error ") {
        Some(at) => text[..at].to_owned(),
        None => text,
    }
}
