//! A real registry inside a lab: Debian's docker-registry on loopback, filled by skopeo.

use std::path::Path;
use std::time::Duration;

use crate::{Background, Lab};

/// Where the banner image is in the registry.
pub const IMAGE: &str = "127.0.0.1:5000/libpod/banner";

impl Lab {
    /// Starts the registry on the host's 127.0.0.1:5000 and puts a `docker save` archive there as [`IMAGE`].
    /// It ends when the value is dropped.
    ///
    /// # Panics
    /// When docker-registry or skopeo is missing or fails.
    pub fn registry(&self, archive: &Path) -> Background {
        let dir = self.dir().display();
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {dir}/registry}}}}\nhttp: {{addr: '127.0.0.1:5000'}}\n"
        );
        std::fs::write(self.dir().join("registry.yml"), config).expect("the lab's directory can be written");
        let server = self.background(&format!("exec docker-registry serve {dir}/registry.yml"));
        let answers = || self.quietly("curl -sf http://127.0.0.1:5000/v2/").code == 0;
        assert!((0..500).any(|_| answers() || nap()), "docker-registry does not answer");
        let copy = "skopeo --insecure-policy copy -q --dest-tls-verify=false";
        self.quietly(&format!("{copy} docker-archive:{} docker://{IMAGE}:latest", archive.display())).ok();
        server
    }
}

/// Always false, after a moment.
fn nap() -> bool {
    std::thread::sleep(Duration::from_millis(20));
    false
}
