//! Networks as files: Podman's read in and written out, CNI's read in.
//!
//! ```text
//!   /etc/containers/networks/NAME.json ──> import_network ──> store
//!   /etc/cni/net.d/NAME.conflist ────────┘                      │
//!   DIR/NAME.json <── rename <── .NAME.json.new <── export_network
//! ```
//!
//! Two places are looked at by every command, as Podman does, and what is new there is taken in: the directory that
//! `--network-config-dir` names, and `podman.json` in Podman's own, which is how its manual changes the default
//! network. A file is read once and again when it was written to; its network is the store's from then on.

use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use host::Host;
use linux::file::{Durability, write_atomic};
use model::{Network, NetworkId, NetworkName, Subnet, cni};
use sha2::{Digest, Sha256};

use crate::definitions::DEFAULT_NETWORK;
use crate::engine::Engine;
use crate::error::{Error, Kind, Result};

/// Where Podman keeps its networks.
pub const PODMAN_NETWORKS: &str = "/etc/containers/networks";

/// Where CNI keeps its configuration lists.
pub const CNI_NETWORKS: &str = "/etc/cni/net.d";

/// No network's file is larger; what is, is something else.
const FILE_MAX: u64 = 1 << 20;

/// Under this and its path the store has when a file was written that has been read.
const SEEN: &str = "network-file:";

/// Only for others to read, as Podman's own.
const FILE_MODE: u32 = 0o644;

impl Engine {
    /// Adds the network that a file describes: Podman's JSON, or a CNI list when the name ends in `.conflist`.
    /// One that is there already, exactly so, is no error.
    pub fn import_network(&mut self, path: &Path) -> Result<Network> {
        self.networking().adopt(read_network(path)?)
    }

    /// Takes in what is new in the files that are followed. One that cannot be taken is told once; one of the
    /// default network waits until nobody is on it.
    pub(crate) fn read_network_files(&mut self) -> Result<()> {
        for path in self.followed_files()? {
            let Some(written) = written(&path) else { continue };
            let key = format!("{SEEN}{}", path.display());
            if self.store.read(|tx| tx.meta_get(&key))?.is_some_and(|seen| seen == written) {
                continue;
            }
            match self.follow(&path) {
                Err(error) if error.kind == Kind::InUse => {
                    tracing::info!("{} is read when it can be: {error}", path.display());
                    continue;
                }
                Err(error) => tracing::warn!("{} is not used: {error}", path.display()),
                Ok(network) => tracing::info!("network {} is as {} says", network.name, path.display()),
            }
            self.store.write(|tx| tx.meta_set(&key, &written))?;
        }
        Ok(())
    }

    fn followed_files(&self) -> Result<Vec<PathBuf>> {
        match &self.options().network_config_dir {
            Some(dir) => Self::network_files(dir),
            None => Ok(vec![Path::new(PODMAN_NETWORKS).join(DEFAULT_NETWORK).with_extension("json")]),
        }
    }

    /// Unlike an import on somebody's word, it does not take what the host has: Podman may run beside us.
    fn follow(&mut self, path: &Path) -> Result<Network> {
        let network = read_network(path)?;
        if let Ok(known) = self.network(network.name.as_str())
            && !self.networking().endpoints_on(&known.id)?.is_empty()
        {
            return Err(Error::new(Kind::InUse, format!("network {} has running containers", known.name)));
        }
        let mut host = Host::open().map_err(|e| Error::usage(e.to_string()))?;
        let facts = host.facts().map_err(|e| Error::usage(e.to_string()))?;
        let used = |subnet: &Subnet| facts.used.iter().any(|used| used.overlaps(subnet));
        if let Some(taken) = network.subnets.iter().find(|s| used(&s.subnet)).filter(|_| !network.may_share()) {
            return Err(Error::usage(format!("subnet {} is already used on the host", taken.subnet)));
        }
        self.networking().adopt(network)
    }

    /// The networks' files in a directory, by name; none when it is not there.
    pub fn network_files(dir: &Path) -> Result<Vec<PathBuf>> {
        let wrong = |e: io::Error| Error::at(format!("cannot read {}", dir.display()), e);
        let entries = match std::fs::read_dir(dir) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(wrong)?,
        };
        let mut files = Vec::new();
        for entry in entries {
            let path = entry.map_err(wrong)?.path();
            let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
            if !hidden && path.extension().is_some_and(|extension| extension == "json" || extension == "conflist") {
                files.push(path);
            }
        }
        files.sort();
        Ok(files)
    }

    /// The networks that `network export` writes when none is named: all but a default network that nobody has
    /// used or changed, for Podman has that by itself.
    pub fn stored_networks(&self) -> Result<Vec<Network>> {
        self.networking().stored()
    }

    /// Writes `DIR/NAME.json` as Podman does; returns its path. A file of the same network is replaced in one
    /// step; one of another network is left alone and named.
    pub fn export_network(&self, network: &Network, dir: &Path) -> Result<PathBuf> {
        let path = dir.join(format!("{}.json", network.name));
        let at = |e: io::Error| Error::at(format!("cannot write {}", path.display()), e);
        std::fs::create_dir_all(dir).map_err(at)?;
        // Another export must not replace what is looked at here.
        let _machine = self.networking().lock_as_it_is()?;
        check_replaced(&path, network)?;
        write_whole(&path, network).map_err(at)?;
        Ok(path)
    }
}

fn read_network(path: &Path) -> Result<Network> {
    let (text, created) = read_bounded(path).map_err(|e| Error::usage(e.to_string()))?;
    match path.extension().is_some_and(|extension| extension == "conflist") {
        true => cni::read(&text, cni_id, &created).map_err(|e| Error::usage(e.to_string())),
        false => serde_json::from_str(&text).map_err(|e| Error::usage(e.to_string())),
    }
}

/// When a file was last written, and how long it is; `None` when there is none, or nothing in it yet: in
/// `podwire network inspect podman | jq '.[]' > FILE` the shell makes it before podwire starts.
fn written(path: &Path) -> Option<String> {
    let about = path.metadata().ok().filter(|about| about.len() > 0)?;
    Some(format!("{}.{:09} {}", about.mtime(), about.mtime_nsec(), about.len()))
}

/// Podman's ids of CNI networks follow from their names.
fn cni_id(name: &NetworkName) -> NetworkId {
    NetworkId::from_bytes(Sha256::digest(name.as_str()).into())
}

/// The text of a file, and when it was last written as RFC 3339 text.
fn read_bounded(path: &Path) -> io::Result<(String, String)> {
    // Not to wait for somebody to write to a FIFO.
    let file =
        OpenOptions::new().read(true).custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed()).open(path)?;
    let about = file.metadata()?;
    if !about.is_file() || about.len() > FILE_MAX {
        return Err(io::Error::other(format!("it is no file of at most {FILE_MAX} bytes")));
    }
    let mut text = String::new();
    file.take(FILE_MAX).read_to_string(&mut text)?;
    let written = jiff::Timestamp::try_from(about.modified()?).map_err(io::Error::other)?;
    Ok((text, written.to_string()))
}

/// Is the file that is there one of this network, or not there?
fn check_replaced(path: &Path, network: &Network) -> Result<()> {
    let text = match read_bounded(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        read => read.map_err(|e| Error::at(format!("cannot read {}", path.display()), e))?.0,
    };
    let id =
        serde_json::from_str::<serde_json::Value>(&text).ok().and_then(|json| Some(json["id"].as_str()?.to_owned()));
    match id {
        Some(id) if id == network.id.to_string() => Ok(()),
        Some(id) => Err(Error::new(
            Kind::Usage,
            format!("{} is there already, of another network (id {id}): remove it first", path.display()),
        )),
        None => Err(Error::new(
            Kind::Usage,
            format!("{} is there already, and is no network's file: remove it first", path.display()),
        )),
    }
}

fn write_whole(path: &Path, network: &Network) -> io::Result<()> {
    write_atomic(path, network.to_podman_file().as_bytes(), FILE_MODE, Durability::PowerCut)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn network(id: u8) -> Network {
        let (id, name) = (NetworkId::from_bytes([id; 32]), "na");
        let text =
            format!(r#"{{"name":"{name}","id":"{id}","driver":"bridge","network_interface":"podman1","created":"x"}}"#);
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn a_file_is_written_whole_and_readable_and_only_over_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("na.json");
        check_replaced(&path, &network(1)).unwrap();
        write_whole(&path, &network(1)).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), network(1).to_podman_file());
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, FILE_MODE);
        check_replaced(&path, &network(1)).unwrap();
        let refused = check_replaced(&path, &network(2)).unwrap_err().to_string();
        assert!(refused.contains(&format!("of another network (id {})", network(1).id)), "{refused}");
        std::fs::write(&path, "[]").unwrap();
        let refused = check_replaced(&path, &network(1)).unwrap_err().to_string();
        assert!(refused.contains("is no network's file"), "{refused}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing staged remains");
    }

    #[test]
    fn what_is_no_file_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        assert!(read_bounded(dir.path()).is_err());
        let large = dir.path().join("large.json");
        File::create(&large).unwrap().set_len(FILE_MAX + 1).unwrap();
        assert!(read_bounded(&large).is_err());
    }

    #[test]
    fn networks_files_are_found_by_name_in_order() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["b.json", "a.conflist", ".c.json.new", ".d.json", "e.txt"] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        let files = Engine::network_files(dir.path()).unwrap();
        let names: Vec<_> = files.iter().map(|path| path.file_name().unwrap().to_string_lossy()).collect();
        assert_eq!(names, ["a.conflist", "b.json"]);
        assert_eq!(Engine::network_files(&dir.path().join("none")).unwrap(), Vec::<PathBuf>::new());
    }

    #[test]
    fn a_cni_networks_id_is_podmans() {
        assert_eq!(cni_id(&"podman".parse().unwrap()).to_string(), model::network::DEFAULT_NETWORK_ID);
    }
}
