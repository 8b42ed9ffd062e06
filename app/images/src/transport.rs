//! `pull` from anything but a registry: `docker-archive:PATH[:NAME]`, `oci:PATH[:NAME]` … (containers-transports(5)).

use std::path::Path;

use model::ImageId;

use crate::error::{ImageError, Result};
use crate::images::Images;
use crate::load::{Choice, Input};
use crate::progress::Progress;
use crate::pull::PullOptions;

/// Transports of files.
const FILES: &[&str] = &["docker-archive:", "oci-archive:", "oci:", "dir:"];

/// Those of others' stores.
const OTHERS: &[&str] = &["docker-daemon:", "containers-storage:", "ostree:", "sif:", "tarball:"];

impl Images<'_> {
    /// Pulls `name` from wherever it says; an archive may have several images.
    pub fn pull_any(&self, name: &str, options: &PullOptions, progress: &dyn Progress) -> Result<Vec<ImageId>> {
        if let Some(other) = OTHERS.iter().find(|transport| name.starts_with(**transport)) {
            return Err(ImageError::Invalid(format!(
                "pulling from {other} is not supported; registries, docker-archive:, oci-archive:, oci: and dir: are"
            )));
        }
        let Some((path, wanted)) = file(name) else {
            return self.pull_registry(name, options, progress).map(|id| vec![id]);
        };
        let choice = Choice { name: wanted, platform: options.platform.clone() };
        let loaded = self.load_chosen(Input::Path(path), &choice, progress)?;
        Ok(loaded.into_iter().map(|(id, _)| id).collect())
    }
}

/// The file that `name` means, and which image of it.
fn file(name: &str) -> Option<(&Path, Option<&str>)> {
    let transport = FILES.iter().find(|transport| name.starts_with(**transport))?;
    let rest = &name[transport.len()..];
    Some(match rest.split_once(':').filter(|_| *transport != "dir:") {
        Some((path, wanted)) => (Path::new(path), Some(wanted).filter(|wanted| !wanted.is_empty())),
        None => (Path::new(rest), None),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_may_be_followed_by_the_name_of_an_image_in_it() {
        let check = |text, path: &str, name| assert_eq!(file(text), Some((Path::new(path), name)), "{text}");
        check("docker-archive:/tmp/a.tar", "/tmp/a.tar", None);
        check("docker-archive:/tmp/a.tar:q.io/x:1", "/tmp/a.tar", Some("q.io/x:1"));
        check("oci:layout:v1", "layout", Some("v1"));
        check("dir:/tmp/a:b", "/tmp/a:b", None);
        assert_eq!(file("docker://q.io/x"), None);
        assert_eq!(file("oci.io/x"), None);
    }
}
