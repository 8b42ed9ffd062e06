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

/// Where the registry of [`Lab::secure_registry`] is.
pub const SECURE: &str = "192.168.99.109:5443";

/// Its one user, and his password.
pub const USER: (&str, &str) = ("alice", "secret");

/// bcrypt of the password, of 32 rounds: htpasswd is not needed to make it.
const HTPASSWD: &str = "alice:$2y$05$YJjP83NvlBKTc/RjVLvNl.hipIpZW8.gSjTps1S1Pj3kxsfj29se.\n";

impl Lab {
    /// Starts a registry at [`SECURE`] that wants a password and has a certificate of an authority of its own, which
    /// nobody trusts: `ca.crt` in the lab's directory. It ends when the value is dropped.
    ///
    /// # Panics
    /// When docker-registry or openssl is missing or fails.
    pub fn secure_registry(&self) -> Background {
        let dir = self.dir().display();
        let write = |name: &str, text: &str| {
            std::fs::write(self.dir().join(name), text).expect("the lab's directory can be written");
        };
        write("htpasswd", HTPASSWD);
        write("san", "subjectAltName=IP:192.168.99.109\n");
        write(
            "secure.yml",
            &format!(
                "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {dir}/secure}}}}\n\
                 auth: {{htpasswd: {{realm: lab, path: {dir}/htpasswd}}}}\n\
                 http: {{addr: '{SECURE}', tls: {{certificate: {dir}/server.crt, key: {dir}/server.key}}}}\n"
            ),
        );
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
        for line in [
            format!("openssl req -x509 {key} -keyout {dir}/ca.key -out {dir}/ca.crt -days 2 -subj /CN=lab"),
            format!("openssl req {key} -keyout {dir}/server.key -out {dir}/server.csr -subj /CN=registry"),
            format!(
                "openssl x509 -req -in {dir}/server.csr -CA {dir}/ca.crt -CAkey {dir}/ca.key -CAcreateserial \
                 -out {dir}/server.crt -days 2 -extfile {dir}/san"
            ),
        ] {
            self.quietly(&line).ok();
        }
        let server = self.background(&format!("exec docker-registry serve {dir}/secure.yml"));
        let answers = || self.quietly(&format!("curl -sk https://{SECURE}/v2/")).code == 0;
        assert!((0..500).any(|_| answers() || nap()), "docker-registry does not answer");
        server
    }
}

/// Always false, after a moment.
fn nap() -> bool {
    std::thread::sleep(Duration::from_millis(20));
    false
}
