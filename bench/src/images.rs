//! A large image of many layers: pulled from a registry on loopback, beside skopeo copying the same.
//!
//! ```text
//!   python3 ──OCI layout──> skopeo ──> docker-registry 127.0.0.1:5000 ──┬─ podwire pull    unpacked, digests compared, synced
//!                                                                       ├─ skopeo copy dir:  blobs as they are
//!                                                                       └─ skopeo copy containers-storage:  unpacked
//! ```
//!
//! 200 MB of 60 layers, or with `LAB_BIG=1` one GB: half of it does not compress, as in images of programs.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Result, ensure};
use lab::Lab;

use crate::peers;

/// Writes the image as an OCI layout: arguments are directory, layers and bytes of all.
const MAKER: &str = r#"
import gzip, hashlib, io, json, os, random, sys, tarfile
to, layers, total = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
os.makedirs(to + "/blobs/sha256")
chance = random.Random(1)
def put(data):
    digest = hashlib.sha256(data).hexdigest()
    open(f"{to}/blobs/sha256/{digest}", "wb").write(data)
    return "sha256:" + digest
described, diffs = [], []
for n in range(layers):
    # Some layers are large, most are small; files as in a distribution.
    left = total // layers * (n % 4) * 2 // 3
    out = io.BytesIO()
    tar = tarfile.open(fileobj=out, mode="w")
    k = 0
    while left > 0 or k == 0:
        size = min(left, chance.choice([300, 3000, 30000, 300000, 3000000]))
        text = (b"%d " % chance.random().__hash__() + b"the quick brown fox jumps over the lazy dog\n") * (size // 90 + 1)
        content = (chance.randbytes(size // 2) + text)[:size]
        entry = tarfile.TarInfo(f"usr/lib/{n}/{k}")
        entry.size = len(content)
        tar.addfile(entry, io.BytesIO(content))
        left -= size
        k += 1
    tar.close()
    plain = out.getvalue()
    diffs.append("sha256:" + hashlib.sha256(plain).hexdigest())
    packed = gzip.compress(plain, 6, mtime=0)
    described.append({"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": put(packed), "size": len(packed)})
config = json.dumps({"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": diffs}}).encode()
manifest = json.dumps({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
    "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": put(config), "size": len(config)},
    "layers": described}).encode()
index = {"schemaVersion": 2, "manifests": [{"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": put(manifest), "size": len(manifest)}]}
open(to + "/index.json", "w").write(json.dumps(index))
open(to + "/oci-layout", "w").write('{"imageLayoutVersion": "1.0.0"}')
"#;

const LAYERS: u32 = 60;
const IMAGE: &str = "127.0.0.1:5000/large";

pub(crate) fn measure(rounds: usize) -> Result<()> {
    for tool in ["docker-registry", "skopeo"] {
        if !Path::new("/usr/bin").join(tool).exists() {
            eprintln!("{tool} is not installed: images are not measured");
            return Ok(());
        }
    }
    let bytes: u64 = if std::env::var_os("LAB_BIG").is_some() { 1 << 30 } else { 200 << 20 };
    let lab = peers::lab()?;
    std::fs::write(lab.dir().join("maker.py"), MAKER)?;
    let dir = lab.dir().display().to_string();
    lab.quietly(&format!("python3 {dir}/maker.py /var/lib/large {LAYERS} {bytes}")).ok();
    let config = "version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: /var/lib/registry}}\n\
                  http: {addr: '127.0.0.1:5000'}\n";
    std::fs::write(lab.dir().join("registry.yml"), config)?;
    let _registry = lab.background(&format!("exec docker-registry serve {dir}/registry.yml"));
    let there = "for n in $(seq 200); do curl -sf http://127.0.0.1:5000/v2/ && exit 0; sleep 0.05; done; exit 1";
    lab.quietly(there).ok();
    let copy = "skopeo --insecure-policy copy -q";
    lab.quietly(&format!("{copy} --dest-tls-verify=false oci:/var/lib/large docker://{IMAGE}")).ok();
    let from = format!("{copy} --src-tls-verify=false docker://{IMAGE}");
    let storage = "containers-storage:[overlay@/var/lib/theirs+/run/theirs]localhost/large";
    let cases = [
        (
            "podwire pull",
            "rm -rf /var/lib/ours /run/ours",
            format!("podwire --root /var/lib/ours --runroot /run/ours pull -q {IMAGE}"),
        ),
        ("skopeo copy to containers-storage", "rm -rf /var/lib/theirs /run/theirs", format!("{from} {storage}")),
        ("skopeo copy to dir", "rm -rf /var/lib/copy", format!("{from} dir:/var/lib/copy")),
        (
            "podwire push (packed anew)",
            "rm -f /var/lib/ours/overlay/*/blobs",
            format!(
                "podwire --root /var/lib/ours --runroot /run/ours push -q --compression-format gzip --format oci {IMAGE} dir:/var/lib/pushed-$$"
            ),
        ),
    ];
    println!("\n## A {} MB image of {LAYERS} layers\n\n| case | median, ms | MB/s |\n|---|---|---|", bytes >> 20);
    let mut times: Vec<Vec<f64>> = vec![Vec::new(); cases.len()];
    for _ in 0..rounds {
        for ((_, before, command), times) in cases.iter().zip(&mut times) {
            lab.quietly(&format!("{before}; rm -rf /var/lib/pushed-*"));
            times.extend(time(&lab, command)?);
        }
    }
    let mut text = String::new();
    for ((name, ..), times) in cases.iter().zip(&mut times) {
        times.sort_by(f64::total_cmp);
        match times.get(times.len() / 2) {
            Some(ms) => writeln!(text, "| {name} | {ms:.0} | {:.0} |", bytes as f64 / 1e3 / ms)?,
            None => writeln!(text, "| {name} | does not run here | – |")?,
        }
    }
    print!("{text}");
    ensure!(!times[0].is_empty(), "podwire did not pull the image");
    Ok(())
}

/// Milliseconds; nothing when it failed.
fn time(lab: &Lab, command: &str) -> Result<Option<f64>> {
    let run = lab.quietly(&format!("labtool time {command}"));
    if run.code != 0 {
        eprintln!("{command}: {}", run.err.lines().last().unwrap_or_default());
        return Ok(None);
    }
    Ok(run.out.trim().lines().last().and_then(|line| line.parse().ok()))
}
