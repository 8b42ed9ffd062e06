//! `volumes` and `volumeMounts`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use engine::config::{Device, VolumeMount, VolumeSource};
use engine::pods::{PodFile, PodVolume};

use crate::container::no_map;
use crate::node::Node;
use crate::{ConfigMaps, HostPath, Keyed, Refused, Result};

/// The volumes of a pod, by their names in the file.
#[derive(Debug, Default)]
pub(crate) struct Volumes(BTreeMap<String, Source>);

#[derive(Debug)]
enum Source {
    /// `hostPath`
    Host(PathBuf, Option<HostPath>),
    /// `emptyDir`, `configMap`: the pod's, gone with it.
    Pod(PodVolume, Access),
    /// `persistentVolumeClaim`: a named volume.
    Claim(String),
    /// A `configMap` that is optional and is not there.
    Nothing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Access {
    Write,
    Read,
}

/// What files of a `ConfigMap` are, unless it says otherwise.
const MODE: u32 = 0o644;

/// The volumes that a pod claims, without a look at its others.
pub(crate) fn claims(spec: &mut Node) -> Result<Vec<String>> {
    let mut claims = Vec::new();
    for mut volume in spec.nodes("volumes")? {
        if let Some(mut claim) = volume.node("persistentVolumeClaim")? {
            claims.push(claim.needed_text("claimName")?);
        }
    }
    Ok(claims)
}

impl Volumes {
    pub(crate) fn read(spec: &mut Node, pod: &str, maps: &ConfigMaps) -> Result<Self> {
        let mut volumes = BTreeMap::new();
        for mut node in spec.nodes("volumes")? {
            let name = node.needed_text("name")?;
            let place = node.at("name");
            let source = source(&mut node, &format!("{pod}-{name}"), maps)?;
            node.finish()?;
            if volumes.insert(name.clone(), source).is_some() {
                return Err(Refused(format!("{place}: two volumes are called {name}")));
            }
        }
        Ok(Self(volumes))
    }

    /// Those that live as long as the pod.
    pub(crate) fn of_pod(&self) -> Vec<PodVolume> {
        let own = |source: &Source| match source {
            Source::Pod(volume, _) => Some(volume.clone()),
            Source::Host(..) | Source::Claim(_) | Source::Nothing => None,
        };
        self.0.values().filter_map(own).collect()
    }

    pub(crate) fn paths(&self) -> Vec<(PathBuf, HostPath)> {
        let path = |source: &Source| match source {
            Source::Host(path, kind) => kind.map(|kind| (path.clone(), kind)),
            Source::Pod(..) | Source::Claim(_) | Source::Nothing => None,
        };
        self.0.values().filter_map(path).collect()
    }

    pub(crate) fn claims(&self) -> Vec<String> {
        let claim = |source: &Source| match source {
            Source::Claim(name) => Some(name.clone()),
            Source::Pod(..) | Source::Host(..) | Source::Nothing => None,
        };
        self.0.values().filter_map(claim).collect()
    }

    /// A container's `volumeMounts`, and those of them that are devices. `root`: where the engine keeps volumes.
    pub(crate) fn mounted(&self, container: &mut Node, root: &Path) -> Result<(Vec<VolumeMount>, Vec<Device>)> {
        let (mut mounts, mut devices) = (Vec::new(), Vec::new());
        for mut mount in container.nodes("volumeMounts")? {
            let place = mount.at("name");
            let name = mount.needed_text("name")?;
            let target = mount.needed_text("mountPath")?;
            let sub = mount.text("subPath")?.filter(|path| !path.is_empty());
            let mut read_only = mount.flag("readOnly")?;
            mount.refuse("subPathExpr", "is not supported by podwire yet")?;
            match mount.text("mountPropagation")?.as_deref() {
                None | Some("None") => {}
                Some(other) => {
                    return Err(Refused(format!("{place}: mountPropagation {other} is not supported by podwire yet")));
                }
            }
            mount.pass_over(&["recursiveReadOnly"]);
            mount.finish()?;
            let source =
                self.0.get(&name).ok_or_else(|| Refused(format!("{place}: the pod has no volume called {name}")))?;
            if let Source::Pod(_, Access::Read) = source {
                read_only = true;
            }
            let data = |name: &str| root.join(name).join("_data");
            let source = match (source, sub) {
                (Source::Nothing, _) => continue,
                (Source::Host(host, Some(HostPath::CharDevice | HostPath::BlockDevice)), None) => {
                    let access = if read_only { "rm" } else { "rwm" };
                    devices.push(Device { host: host.clone(), target, access: access.to_owned() });
                    continue;
                }
                (Source::Host(path, _), None) => VolumeSource::Bind(path.clone()),
                (Source::Host(path, _), Some(sub)) => VolumeSource::Bind(below(&place, path, &sub)?),
                (Source::Pod(PodVolume { name, .. }, _) | Source::Claim(name), None) => {
                    VolumeSource::Named(name.clone())
                }
                (Source::Pod(PodVolume { name, .. }, _) | Source::Claim(name), Some(sub)) => {
                    VolumeSource::Bind(below(&place, &data(name), &sub)?)
                }
            };
            let options = if read_only { vec!["ro".to_owned()] } else { Vec::new() };
            mounts.push(VolumeMount { source, target, options });
        }
        Ok((mounts, devices))
    }
}

/// A path that leads nowhere else.
fn below(place: &str, base: &Path, sub: &str) -> Result<PathBuf> {
    let inside = |path: &Path| path.components().all(|part| matches!(part, std::path::Component::Normal(_)));
    if inside(Path::new(sub)) {
        return Ok(base.join(sub));
    }
    Err(Refused(format!("{place}: subPath {sub:?} must lead below the volume")))
}

fn source(node: &mut Node, name: &str, maps: &ConfigMaps) -> Result<Source> {
    if let Some(secret) = node.node("secret")? {
        return keyed(secret, Keyed::Secret, name, maps);
    }
    let sources =
        [node.node("hostPath")?, node.node("emptyDir")?, node.node("configMap")?, node.node("persistentVolumeClaim")?];
    match sources {
        [Some(host), None, None, None] => host_path(host),
        [None, Some(mut empty), None, None] => {
            empty.refuse("sizeLimit", "is not supported by podwire yet")?;
            empty.refuse("medium", "is not supported by podwire yet")?;
            empty.finish()?;
            Ok(Source::Pod(PodVolume { name: name.to_owned(), files: Vec::new() }, Access::Write))
        }
        [None, None, Some(map), None] => keyed(map, Keyed::Map, name, maps),
        [None, None, None, Some(mut claim)] => {
            let name = claim.needed_text("claimName")?;
            claim.pass_over(&["readOnly"]);
            claim.finish()?;
            Ok(Source::Claim(name))
        }
        _ => Err(Refused(format!(
            "{}: a volume is one of hostPath, emptyDir, configMap, secret and persistentVolumeClaim; podwire has no others \
             yet",
            node.at(name)
        ))),
    }
}

fn host_path(mut node: Node) -> Result<Source> {
    let place = node.at("path");
    let path = PathBuf::from(node.needed_text("path")?);
    if !path.is_absolute() {
        return Err(Refused(format!("{place}: {} must be an absolute path", path.display())));
    }
    let kind = node.text("type")?;
    node.finish()?;
    let kind = match kind.as_deref().unwrap_or_default() {
        "" => None,
        "Directory" => Some(HostPath::Directory),
        "File" => Some(HostPath::File),
        "Socket" => Some(HostPath::Socket),
        "CharDevice" => Some(HostPath::CharDevice),
        "BlockDevice" => Some(HostPath::BlockDevice),
        "DirectoryOrCreate" => Some(HostPath::DirectoryOrCreate),
        "FileOrCreate" => Some(HostPath::FileOrCreate),
        other => return Err(Refused(format!("{place}: hostPath type {other} is not known"))),
    };
    Ok(Source::Host(path, kind))
}

fn keyed(mut node: Node, kind: Keyed, volume: &str, maps: &ConfigMaps) -> Result<Source> {
    let name = node.needed_text(if kind == Keyed::Map { "name" } else { "secretName" })?;
    let word = kind.word();
    let optional = node.flag("optional")?;
    let mode = node.number("defaultMode")?.unwrap_or(MODE);
    let items = node.nodes("items")?;
    node.finish()?;
    let Some(values) = maps.get(kind, &name) else {
        return if optional { Ok(Source::Nothing) } else { Err(no_map(kind, &name)) };
    };
    let mut files = Vec::new();
    if items.is_empty() {
        let file = |(key, text): (&String, &String)| PodFile { path: key.clone(), mode, text: text.clone() };
        files.extend(values.iter().map(file));
    }
    for mut item in items {
        let place = item.at("path");
        let (key, path) = (item.needed_text("key")?, item.needed_text("path")?);
        let mode = item.number("mode")?.unwrap_or(mode);
        item.finish()?;
        let text = values.get(&key).ok_or_else(|| Refused(format!("{word} {name} has no key {key}")))?;
        files.push(PodFile {
            path: below(&place, Path::new(""), &path)?.display().to_string(),
            mode,
            text: text.clone(),
        });
    }
    let mut seen = BTreeSet::new();
    if let Some(twice) = files.iter().find(|file| !seen.insert(&file.path)) {
        return Err(Refused(format!("two items of {word} {name} have the path {}", twice.path)));
    }
    // Keys are file names, and may not lead out of the volume.
    for file in &files {
        below(&format!("{word} {name}"), Path::new(""), &file.path)?;
    }
    Ok(Source::Pod(PodVolume { name: volume.to_owned(), files }, Access::Read))
}
