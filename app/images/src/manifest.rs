//! Manifests, indexes and configurations: JSON that strangers wrote.
//!
//! ```text
//!   index ──platform──> manifest ─┬─ config (digest) ──> the image's id, its diff_ids
//!                                 └─ layers (digests, sizes)
//! ```
//!
//! OCI image manifests and indexes, and Docker's schema 2 and lists, which have the same shape.

use oci_spec::image::ImageConfiguration;
use serde::Deserialize;

use crate::digest::Digest;
use crate::error::{ImageError, Result};
use crate::platform::Platform;

/// The largest manifest or index taken (containers/image: 4 MiB).
pub(crate) const MANIFEST_MAX: u64 = 4 << 20;

/// The largest configuration taken. Build histories reach a few hundred KiB.
pub(crate) const CONFIG_MAX: u64 = 8 << 20;

/// More layers than overlayfs can stack (fs/overlayfs/params.h, `OVL_MAX_STACK`) cannot be run.
pub(crate) const LAYERS_MAX: usize = 500;

pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// What we take, best first: for the `Accept` header.
pub(crate) const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, \
     application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.v2+json";

/// What a digest in a manifest points to.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    #[serde(default)]
    pub(crate) media_type: String,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    #[serde(default)]
    platform: Option<PlatformJson>,
    #[serde(default)]
    annotations: Option<std::collections::BTreeMap<String, String>>,
}

impl Descriptor {
    /// The name given in an OCI directory's index.
    pub(crate) fn name(&self) -> Option<&str> {
        self.annotations.as_ref()?.get("org.opencontainers.image.ref.name").map(String::as_str)
    }

    /// The full name that containerd and Docker add.
    pub(crate) fn full_name(&self) -> Option<&str> {
        self.annotations.as_ref()?.get("io.containerd.image.name").map(String::as_str)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct PlatformJson {
    os: String,
    architecture: String,
    #[serde(default)]
    variant: Option<String>,
}

/// A parsed manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Manifest {
    /// One image per platform.
    Index(Vec<Descriptor>),
    /// An image.
    Image(ImageManifest),
}

/// One image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ImageManifest {
    pub(crate) media_type: String,
    pub(crate) config: Descriptor,
    /// Lowest first.
    pub(crate) layers: Vec<Descriptor>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ManifestJson {
    #[serde(default)]
    schema_version: Option<u32>,
    #[serde(default)]
    media_type: Option<String>,
    #[serde(default)]
    manifests: Option<Vec<Descriptor>>,
    #[serde(default)]
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Option<Vec<Descriptor>>,
}

impl Manifest {
    /// Parses a manifest or index, whichever it is.
    pub(crate) fn parse(bytes: &[u8], content_type: Option<&str>) -> Result<Self> {
        let json: ManifestJson =
            serde_json::from_slice(bytes).map_err(|e| ImageError::Content(format!("malformed manifest: {e}")))?;
        let media_type = json.media_type.as_deref().or(content_type).unwrap_or_default().to_owned();
        if json.schema_version == Some(1) || media_type.contains("manifest.v1+") && media_type.contains("docker") {
            return Err(ImageError::Content(
                "the image has only a manifest of the outdated schema 1, which is not supported; push it again with a current tool"
                    .to_owned(),
            ));
        }
        match json {
            // CVE-2021-41190: what is two things at once is none.
            ManifestJson { manifests: Some(list), config: None, layers: None, .. } => Ok(Self::Index(list)),
            ManifestJson { manifests: None, config: Some(config), layers: Some(layers), .. } => {
                let media_type = if media_type.is_empty() { OCI_MANIFEST.to_owned() } else { media_type };
                image(ImageManifest { media_type, config, layers }).map(Self::Image)
            }
            _ => Err(ImageError::Content("malformed manifest: it is neither an image's nor an index".to_owned())),
        }
    }
}

fn image(manifest: ImageManifest) -> Result<ImageManifest> {
    let kind = manifest.config.media_type.as_str();
    if !matches!(
        kind,
        "" | "application/vnd.oci.image.config.v1+json"
            | "application/vnd.docker.container.image.v1+json"
            | "application/json"
    ) {
        return Err(ImageError::Content(format!("it is no container image: its configuration is of type {kind:?}")));
    }
    if manifest.layers.len() > LAYERS_MAX {
        return Err(ImageError::Content(format!("the image has more than {LAYERS_MAX} layers")));
    }
    if let Some(layer) = manifest.layers.iter().find(|layer| layer.media_type.ends_with("+encrypted")) {
        return Err(ImageError::Content(format!("layer {} is encrypted, which is not supported", layer.digest)));
    }
    Ok(manifest)
}

/// The annotations of a manifest.
pub(crate) fn annotations(manifest: &str) -> std::collections::BTreeMap<String, String> {
    #[derive(Default, Deserialize)]
    struct Annotated {
        #[serde(default)]
        annotations: Option<std::collections::BTreeMap<String, String>>,
    }
    serde_json::from_str::<Annotated>(manifest).unwrap_or_default().annotations.unwrap_or_default()
}

/// The image for `platform` in an index.
pub(crate) fn choose<'a>(list: &'a [Descriptor], platform: &Platform) -> Result<&'a Descriptor> {
    let offered: Vec<(Option<Platform>, &Descriptor)> = list
        .iter()
        .map(|descriptor| {
            let platform = descriptor.platform.clone().map(|p| Platform {
                os: p.os,
                architecture: p.architecture,
                variant: p.variant.filter(|v| !v.is_empty()),
            });
            (platform, descriptor)
        })
        .collect();
    if let Some((_, descriptor)) = platform.choose(&offered, |(platform, _)| platform.as_ref()) {
        return Ok(descriptor);
    }
    // An index of one image that says nothing about platforms, as `skopeo copy` to an OCI directory writes it.
    match list {
        [only] if only.platform.is_none() => Ok(only),
        _ => Err(ImageError::Content(format!(
            "no image found in image index for architecture {:?}, variant {:?}, OS {:?}",
            platform.architecture,
            platform.variant.as_deref().unwrap_or_default(),
            platform.os
        ))),
    }
}

/// A parsed configuration, in a fixed order, and its layers' diff ids, lowest first.
pub(crate) fn configuration(bytes: &[u8]) -> Result<(ImageConfiguration, Vec<Digest>)> {
    let wrong = |what: String| ImageError::Content(format!("malformed image configuration: {what}"));
    let mut parsed: ImageConfiguration = serde_json::from_slice(bytes).map_err(|e| wrong(e.to_string()))?;
    if let Some(config) = parsed.config().clone() {
        parsed.set_config(Some(ordered(config)));
    }
    let diff_ids = parsed.rootfs().diff_ids().iter().map(|text| text.parse().map_err(|e: model::Invalid| wrong(e.0)));
    let diff_ids = diff_ids.collect::<Result<Vec<Digest>>>()?;
    Ok((parsed, diff_ids))
}

/// oci-spec reads these through a hash map: without this they would come in another order each time.
fn ordered(mut config: oci_spec::image::Config) -> oci_spec::image::Config {
    let sorted = |list: &Option<Vec<String>>| {
        list.clone().map(|mut list| {
            list.sort();
            list
        })
    };
    let (ports, volumes) = (sorted(config.exposed_ports()), sorted(config.volumes()));
    config.set_exposed_ports(ports);
    config.set_volumes(volumes);
    config
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn said(json: serde_json::Value) -> String {
        match Manifest::parse(json.to_string().as_bytes(), None) {
            Ok(Manifest::Index(list)) => format!("index of {}", list.len()),
            Ok(Manifest::Image(image)) => format!("image of {}", image.layers.len()),
            Err(error) => error.to_string(),
        }
    }

    fn descriptor(kind: &str) -> serde_json::Value {
        json!({"mediaType": kind, "digest": Digest::of(kind.as_bytes()), "size": 7})
    }

    #[test]
    fn a_manifest_is_an_image_or_an_index_never_both() {
        let config = descriptor("application/vnd.oci.image.config.v1+json");
        let layer = descriptor("application/vnd.oci.image.layer.v1.tar+gzip");
        assert_eq!(said(json!({"schemaVersion": 2, "config": config, "layers": [layer]})), "image of 1");
        assert_eq!(said(json!({"schemaVersion": 2, "manifests": [config]})), "index of 1");
        let none = "malformed manifest: it is neither an image's nor an index";
        assert_eq!(said(json!({"schemaVersion": 2, "manifests": [config], "layers": [], "config": config})), none);
        assert_eq!(said(json!({})), none);
        assert!(said(json!([])).starts_with("malformed manifest: "));
    }

    #[test]
    fn what_cannot_be_run_is_refused_by_a_sentence() {
        assert!(said(json!({"schemaVersion": 1, "name": "x"})).contains("schema 1, which is not supported"));
        let helm = descriptor("application/vnd.cncf.helm.config.v1+json");
        assert!(said(json!({"config": helm, "layers": []})).starts_with("it is no container image"));
        let config = descriptor("");
        let layer = descriptor("application/vnd.oci.image.layer.v1.tar+gzip+encrypted");
        assert!(said(json!({"config": config, "layers": [layer]})).contains("is encrypted"));
        let negative = json!({"digest": Digest::of(b""), "size": -1});
        assert!(said(json!({"config": negative, "layers": []})).starts_with("malformed manifest: "));
    }

    #[test]
    fn an_index_without_our_platform_says_which_was_wanted() {
        let mut other = descriptor("x");
        other["platform"] = json!({"os": "linux", "architecture": "s390x"});
        let list: Vec<Descriptor> = serde_json::from_value(json!([other])).unwrap();
        assert_eq!(
            choose(&list, &"linux/amd64".parse().unwrap()).unwrap_err().to_string(),
            "no image found in image index for architecture \"amd64\", variant \"\", OS \"linux\""
        );
        assert!(choose(&list, &"linux/s390x".parse().unwrap()).is_ok());
    }

    #[test]
    fn a_docker_configuration_with_nulls_is_read() {
        let text = json!({
            "architecture": "amd64", "os": "linux",
            "config": {"Cmd": null, "Env": null, "ExposedPorts": null, "Volumes": {"/b": {}, "/a": {}}, "Labels": null},
            "rootfs": {"type": "layers", "diff_ids": [Digest::of(b"")]},
        });
        let (config, diff_ids) = configuration(text.to_string().as_bytes()).unwrap();
        assert_eq!(diff_ids, [Digest::of(b"")]);
        let inner = config.config().as_ref().unwrap();
        assert_eq!(inner.volumes().as_deref(), Some(&["/a".to_owned(), "/b".to_owned()][..]));
        assert_eq!(inner.exposed_ports(), &None);
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
            let _ = Manifest::parse(&bytes, None);
            let _ = configuration(&bytes);
        }
    }
}
