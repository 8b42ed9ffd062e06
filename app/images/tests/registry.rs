//! Pull, load and import against the real thing: Debian's docker-registry, filled by skopeo, in a network namespace of
//! our own. Runs itself again inside `unshare -n`; a visible skip when not root or when a tool is missing.

extern crate podwire_images as images;

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use images::{
    Access, Event, Image, ImageError, Images, Import, Input, Machine, Platform, Policy, Progress, PullOptions, Quiet,
};
use store::Store;

const INSIDE: &str = "PODWIRE_IMAGES_TEST_INSIDE";
const REGISTRY: &str = "127.0.0.1:5000";

/// Everything in one test, because everything shares one registry, which takes a second to start.
#[test]
fn images_come_from_registries_and_archives() {
    for tool in ["/usr/bin/docker-registry", "/usr/bin/skopeo", "/bin/busybox", "/usr/bin/unshare", "/usr/sbin/ip"] {
        if !Path::new(tool).exists() {
            eprintln!("SKIP images_come_from_registries_and_archives: {tool} is missing");
            return;
        }
    }
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIP images_come_from_registries_and_archives: needs root");
        return;
    }
    match std::env::var_os(INSIDE) {
        None => {}
        Some(root) if root != "1" => {
            // To be killed.
            let root = Root { store: Store::open(Path::new(&root)).unwrap(), path: root.into() };
            root.pull("127.0.0.1:5000/libpod/banner:v1").unwrap();
            return;
        }
        Some(_) => return inside(),
    }
    let me = std::env::current_exe().expect("this program has a path");
    // --fork with --kill-child: the registry goes with the namespace whatever happens to us.
    let status = Command::new("unshare")
        .args(["-n", "-p", "-m", "--mount-proc", "--fork", "--kill-child", "--"])
        .arg(me)
        .args(["--exact", "images_come_from_registries_and_archives", "--nocapture"])
        .env(INSIDE, "1")
        .status()
        .expect("unshare runs");
    assert!(status.success(), "see above");
}

fn inside() {
    run("ip", &["link", "set", "lo", "up"]);
    let world = World::new();
    let steps: &[Step] = &[
        ("a pulled image has its layers, names and digests", pulled),
        ("a second pull fetches nothing", pulled_again),
        ("two pulls of one image at once both succeed", pulled_twice_at_once),
        ("wrong names and places are one clear line", refused),
        ("layers of several compressions and whiteouts stack", stacked),
        ("an index gives the image of the platform", indexed),
        ("a download that breaks off goes on where it was", resumed),
        ("a wrong digest leaves nothing", damaged),
        ("a truncated blob leaves nothing", truncated),
        ("archives of docker and OCI are loaded", loaded),
        ("garbage is not loaded", garbage),
        ("a tarball is imported", imported),
        ("names and ids are found as Podman finds them", found),
        ("names are taken away one by one, images with the last", removed),
        ("what a killed pull left is removed", leftovers),
        ("a registry that wants a token gets one", token),
        ("certificates are checked unless told otherwise", certificates),
        ("a full disk is one clear line and leaves nothing", full),
        ("a pull killed at any moment leaves nothing that stays", killed),
    ];
    for (sentence, step) in steps {
        let begun = Instant::now();
        step(&world);
        eprintln!("ok: {sentence} ({} ms)", begun.elapsed().as_millis());
    }
}

/// A sentence, and what shows that it is true.
type Step = (&'static str, fn(&World));

/// A registry and the images put into it.
struct World {
    dir: tempfile::TempDir,
    registry: Mutex<Child>,
}

impl Drop for World {
    fn drop(&mut self) {
        let mut registry = self.registry.lock().unwrap_or_else(|e| e.into_inner());
        let _ = registry.kill();
        let _ = registry.wait();
    }
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}/registry}}}}\nhttp: {{addr: '{REGISTRY}'}}\n",
            dir.path().display()
        );
        fs::write(dir.path().join("registry.yml"), config).unwrap();
        let mut serve = Command::new("docker-registry");
        serve.arg("serve").arg(dir.path().join("registry.yml")).stdout(Stdio::null()).stderr(Stdio::null());
        let world = Self { registry: Mutex::new(serve.spawn().unwrap()), dir };
        let address: SocketAddr = REGISTRY.parse().unwrap();
        while TcpStream::connect(address).is_err() {
            std::thread::sleep(Duration::from_millis(20));
        }
        let busybox = fs::read("/bin/busybox").unwrap();
        world.push("libpod/banner:v1", &[tar(&[("bin/busybox", &busybox), ("etc/motd", b"hello")])], "linux/amd64");
        world.push("libpod/banner:latest", &[tar(&[("bin/busybox", &busybox), ("etc/motd", b"hello")])], "linux/amd64");
        world
    }

    /// Writes an OCI directory by hand and copies it to the registry.
    fn push(&self, name: &str, layers: &[Vec<u8>], platform: &str) -> PathBuf {
        let oci = self.dir.path().join(format!("oci-{}", name.replace(['/', ':'], "-")));
        let manifest = write_oci(&oci, layers, platform);
        write_index(&oci, &[manifest]);
        let to = format!("docker://{REGISTRY}/{name}");
        run(
            "skopeo",
            &[
                "--insecure-policy",
                "copy",
                "-q",
                "--preserve-digests",
                "--dest-tls-verify=false",
                &format!("oci:{}", oci.display()),
                &to,
            ],
        );
        oci
    }

    fn root(&self, name: &str) -> Root {
        let path = self.dir.path().join(format!("root-{name}"));
        Root { store: Store::open(&path).unwrap(), path }
    }

    /// The registry's file of a blob.
    fn blob(&self, digest: &str) -> PathBuf {
        let hex = digest.strip_prefix("sha256:").unwrap();
        self.dir.path().join(format!("registry/docker/registry/v2/blobs/sha256/{}/{hex}/data", &hex[..2]))
    }
}

/// A root directory of podwire's.
struct Root {
    path: PathBuf,
    store: Store,
}

impl Root {
    fn images(&self) -> Images<'_> {
        // No file of the machine the tests run on.
        Images::open(&self.path, &self.store)
            .unwrap()
            .on(Machine { registries_conf: "/nonexistent/registries.conf".into(), ..Machine::default() })
    }

    fn pull(&self, name: &str) -> Result<Image, ImageError> {
        let id = self.images().pull(name, &PullOptions::default(), &Quiet)?;
        self.images().by_id(&id)
    }

    fn in_overlay(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.path.join("overlay"))
            .map(|all| all.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect())
            .unwrap_or_default();
        names.sort();
        names
    }

    fn is_empty(&self) {
        assert_eq!(self.in_overlay(), [""; 0]);
        assert_eq!(self.store.read(|tx| tx.layers()).unwrap(), [0_i64; 0]);
        assert_eq!(self.images().list().unwrap().len(), 0);
    }
}

fn pulled(world: &World) {
    let root = world.root("main");
    let image = root.pull("127.0.0.1:5000/libpod/banner:v1").unwrap();
    assert_eq!(image.names, ["127.0.0.1:5000/libpod/banner:v1"]);
    assert_eq!(image.config.config().as_ref().unwrap().cmd().as_deref(), Some(&["sh".to_owned()][..]));
    let [layer] = image.layers.as_slice() else { panic!("{:?}", image.layers) };
    assert_eq!(fs::read(layer.join("etc/motd")).unwrap(), b"hello");
    assert_eq!(fs::read(layer.join("bin/busybox")).unwrap(), fs::read("/bin/busybox").unwrap());
    let digest = output(
        "skopeo",
        &["inspect", "--tls-verify=false", "-f", "{{.Digest}}", "docker://127.0.0.1:5000/libpod/banner:v1"],
    );
    assert_eq!(image.digest.as_str(), digest);
    assert_eq!(image.size, 5 + fs::metadata("/bin/busybox").unwrap().len());
    assert_eq!(image.created.unwrap().to_string(), "2026-01-01T00:00:00Z");
    // By digest, and without a scheme or tag.
    let same = root.pull(&format!("docker://127.0.0.1:5000/libpod/banner@{digest}")).unwrap();
    assert_eq!(same.id, image.id);
    assert_eq!(
        same.names,
        ["127.0.0.1:5000/libpod/banner:v1".to_owned(), format!("127.0.0.1:5000/libpod/banner@{digest}")]
    );
    assert_eq!(root.in_overlay(), ["1"]);
    assert_eq!(root.pull("127.0.0.1:5000/libpod/banner").unwrap().id, image.id);
}

/// Counts what happens.
#[derive(Default)]
struct Count {
    begun: AtomicUsize,
    present: AtomicUsize,
    bytes: AtomicUsize,
}

impl Progress for Count {
    fn event(&self, event: Event<'_>) {
        match event {
            Event::LayerBegun(..) => drop(self.begun.fetch_add(1, Ordering::Relaxed)),
            Event::LayerPresent(_) => drop(self.present.fetch_add(1, Ordering::Relaxed)),
            Event::LayerRead(_, bytes) => self.bytes.store(bytes as usize, Ordering::Relaxed),
            _ => {}
        }
    }
}

fn pulled_again(world: &World) {
    let root = world.root("main");
    let count = Count::default();
    root.images().pull("127.0.0.1:5000/libpod/banner:v1", &PullOptions::default(), &count).unwrap();
    assert_eq!((count.begun.into_inner(), count.present.into_inner()), (0, 1));
}

fn pulled_twice_at_once(world: &World) {
    let path = world.root("twice").path;
    std::thread::scope(|scope| {
        let pulls: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let root = Root { store: Store::open(&path).unwrap(), path: path.clone() };
                    root.pull("127.0.0.1:5000/libpod/banner:v1").unwrap().id
                })
            })
            .collect();
        let ids: Vec<_> = pulls.into_iter().map(|pull| pull.join().unwrap()).collect();
        assert!(ids.windows(2).all(|pair| pair[0] == pair[1]));
    });
    assert_eq!(world.root("twice").in_overlay(), ["1"], "the layer was fetched once");
}

fn refused(world: &World) {
    let root = world.root("refused");
    let said = |name: &str| root.pull(name).unwrap_err().to_string();
    let source = "initializing source docker://127.0.0.1:5000";
    assert_eq!(
        said("127.0.0.1:5000/libpod/banner:v2"),
        format!("{source}/libpod/banner:v2: reading manifest v2 in 127.0.0.1:5000/libpod/banner: manifest unknown")
    );
    assert_eq!(
        said("127.0.0.1:5000/nope"),
        format!("{source}/nope:latest: reading manifest latest in 127.0.0.1:5000/nope: manifest unknown")
    );
    assert_eq!(
        said("127.0.0.1:1/x"),
        "initializing source docker://127.0.0.1:1/x:latest: pinging container registry 127.0.0.1:1: Get \"http://127.0.0.1:1/v2/\": connection refused"
    );
    assert!(
        said("registry.invalid/x")
            .contains("pinging container registry registry.invalid: Get \"https://registry.invalid/v2/\": ")
    );
    assert!(said("10.255.255.1/x").contains("Network is unreachable"), "{}", said("10.255.255.1/x"));
    assert_eq!(said("Foo"), "repository name must be lowercase");
    assert_eq!(said("a b"), "invalid reference format");
    assert!(said("nosuch").starts_with("short-name \"nosuch\" did not resolve to an alias"));
    assert!(said("docker-daemon:x").contains("is not supported"));
    let id = "0".repeat(64);
    assert_eq!(said(&id), format!("pull policy is always but image has been referred to by ID ({id})"));
    // Plain HTTP behind a name that is not loopback is refused, and said to be so.
    run("ip", &["addr", "add", "198.51.100.7/32", "dev", "lo"]);
    let plain = forward("198.51.100.7:5000", usize::MAX);
    let text = said(&format!("{}/libpod/banner:v1", plain.address));
    assert!(
        text.contains("server gave HTTP response to HTTPS client") && text.contains("--tls-verify=false"),
        "{text}"
    );
    let options = PullOptions { access: unverified(), platform: None, policy: Policy::Always };
    let begun = Instant::now();
    root.images().pull(&format!("{}/libpod/banner:v1", plain.address), &options, &Quiet).unwrap();
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    root.images().remove("banner:v1", false).unwrap();
    root.is_empty();
}

fn stacked(world: &World) {
    let lower = tar(&[("etc/a", b"a"), ("etc/b", b"b")]);
    let upper = tar(&[("etc/.wh.a", b""), ("etc/c", b"c")]);
    let last = tar(&[("var/.wh..wh..opq", b""), ("var/d", b"d")]);
    world.push(
        "stack:gzip",
        &[lower.clone(), gzip(&upper), zstd::encode_all(last.as_slice(), 3).unwrap()],
        "linux/amd64",
    );
    let root = world.root("stack");
    let image = root.pull("127.0.0.1:5000/stack:gzip").unwrap();
    assert_eq!(image.layers.len(), 3);
    assert!(image.layers[0].join("var/d").exists(), "topmost first");
    assert!(image.layers[2].join("etc/a").exists());
    // For the kernel's opinion, mount it.
    let merged = world.dir.path().join("merged");
    fs::create_dir(&merged).unwrap();
    let lowers: Vec<String> = image.layers.iter().map(|path| path.display().to_string()).collect();
    run(
        "mount",
        &["-t", "overlay", "overlay", "-o", &format!("lowerdir={}", lowers.join(":")), merged.to_str().unwrap()],
    );
    assert!(!merged.join("etc/a").exists());
    assert_eq!(fs::read(merged.join("etc/b")).unwrap(), b"b");
    assert_eq!(fs::read(merged.join("etc/c")).unwrap(), b"c");
    run("umount", &[merged.to_str().unwrap()]);
    // A shared lower layer is not fetched for another image.
    world.push("stack:other", &[lower, tar(&[("other", b"o")])], "linux/amd64");
    let count = Count::default();
    root.images().pull("127.0.0.1:5000/stack:other", &PullOptions::default(), &count).unwrap();
    assert_eq!((count.begun.into_inner(), count.present.into_inner()), (1, 1));
    // And stays when the other goes.
    root.images().remove("stack:gzip", false).unwrap();
    assert_eq!(fs::read(root.images().find("stack:other").unwrap().layers[1].join("etc/a")).unwrap(), b"a");
    root.images().remove("stack:other", false).unwrap();
    root.is_empty();
}

fn indexed(world: &World) {
    let oci = world.dir.path().join("oci-index");
    let mut manifests = Vec::new();
    for platform in ["linux/amd64", "linux/arm64"] {
        manifests.push(write_oci(&oci, &[tar(&[("platform", platform.as_bytes())])], platform));
    }
    write_index(&oci, &manifests);
    // skopeo copies one image; the index itself is put by hand.
    let index = fs::read(oci.join("index.json")).unwrap();
    for manifest in &manifests {
        let digest = manifest["digest"].as_str().unwrap();
        let single = world.dir.path().join("oci-single");
        let _ = fs::remove_dir_all(&single);
        run("cp", &["-r", oci.to_str().unwrap(), single.to_str().unwrap()]);
        write_index(&single, std::slice::from_ref(manifest));
        let to = format!("docker://127.0.0.1:5000/multi@{digest}");
        run(
            "skopeo",
            &[
                "--insecure-policy",
                "copy",
                "-q",
                "--preserve-digests",
                "--dest-tls-verify=false",
                &format!("oci:{}", single.display()),
                &to,
            ],
        );
    }
    put("/v2/multi/manifests/latest", "application/vnd.oci.image.index.v1+json", &index);
    let root = world.root("index");
    for platform in ["linux/amd64", "linux/arm64/v8"] {
        let options = PullOptions {
            access: Access::default(),
            platform: Some(platform.parse().unwrap()),
            policy: Policy::Always,
        };
        let id = root.images().pull("127.0.0.1:5000/multi", &options, &Quiet).unwrap();
        let image = root.images().by_id(&id).unwrap();
        assert!(platform.starts_with(&fs::read_to_string(image.layers[0].join("platform")).unwrap()));
        // The manifest's and the index's digest both lead to it.
        assert_eq!(image.digests.len(), 2);
        let by_index = format!("127.0.0.1:5000/multi@{}", images::Digest::of(&index));
        assert_eq!(root.images().find(&by_index).unwrap().id, id);
    }
    let options = PullOptions {
        access: Access::default(),
        platform: Some("linux/s390x".parse().unwrap()),
        policy: Policy::Always,
    };
    let said = root.images().pull("127.0.0.1:5000/multi", &options, &Quiet).unwrap_err().to_string();
    assert!(
        said.ends_with("no image found in image index for architecture \"s390x\", variant \"\", OS \"linux\""),
        "{said}"
    );
    // The first lost its name to the second, and is still there.
    assert_eq!(root.images().list().unwrap().iter().map(|image| image.names.len()).sum::<usize>(), 1);
    assert_eq!(root.images().list().unwrap().len(), 2);
}

fn resumed(world: &World) {
    // Breaks every connection after 300,000 bytes: busybox needs several.
    let proxy = forward("127.0.0.1:0", 300_000);
    let root = world.root("resumed");
    let image = root.pull(&format!("{}/libpod/banner:v1", proxy.address)).unwrap();
    assert_eq!(fs::read(image.layers[0].join("bin/busybox")).unwrap(), fs::read("/bin/busybox").unwrap());
    // One that breaks before anything comes through is given up after some tries.
    let hopeless = forward("127.0.0.1:0", 3_000);
    let root = world.root("hopeless");
    let said = root.pull(&format!("{}/libpod/banner:v1", hopeless.address)).unwrap_err().to_string();
    assert!(said.contains(&hopeless.address) && !said.contains('\n'), "{said}");
    root.is_empty();
}

fn damaged(world: &World) {
    let layer = gzip(&tar(&[("x", &[9; 3000])]));
    world.push("damaged:latest", std::slice::from_ref(&layer), "linux/amd64");
    let digest = images::Digest::of(&layer);
    let other = gzip(&tar(&[("y", &[9; 3000])]));
    let mut replaced = other.clone();
    replaced.resize(layer.len(), 0);
    fs::write(world.blob(digest.as_str()), &replaced).unwrap();
    let root = world.root("damaged");
    let said = root.pull("127.0.0.1:5000/damaged").unwrap_err().to_string();
    assert!(said.contains(digest.as_str()) && !said.contains('\n'), "{said}");
    root.is_empty();
    // A manifest of another digest than asked for.
    let manifest = b"{}";
    let wanted = images::Digest::of(b"something else");
    let server = answer(format!(
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}",
        std::str::from_utf8(manifest).unwrap()
    ));
    let said = root.pull(&format!("{server}/x@{wanted}")).unwrap_err().to_string();
    assert!(said.contains("digest mismatch"), "{said}");
    let said = root.pull(&format!("{server}/x")).unwrap_err().to_string();
    assert!(said.ends_with("malformed manifest: it is neither an image's nor an index"), "{said}");
    let server = answer("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_owned());
    let said = root.pull(&format!("{server}/x")).unwrap_err().to_string();
    assert!(said.ends_with("requested access to the resource is denied"), "{said}");
    root.is_empty();
}

fn truncated(world: &World) {
    let layer = gzip(&tar(&[("x", &noise(200_000))]));
    world.push("truncated:latest", std::slice::from_ref(&layer), "linux/amd64");
    let file = fs::OpenOptions::new().write(true).open(world.blob(images::Digest::of(&layer).as_str())).unwrap();
    file.set_len(50_000).unwrap();
    let root = world.root("truncated");
    let said = root.pull("127.0.0.1:5000/truncated").unwrap_err().to_string();
    assert!(said.contains("127.0.0.1:5000/truncated") && said.contains("50000 of"), "{said}");
    root.is_empty();
}

fn loaded(world: &World) {
    let dir = world.dir.path();
    let (docker, oci) = (dir.join("docker.tar"), dir.join("oci.tar"));
    let from = "docker://127.0.0.1:5000/libpod/banner:v1";
    let copy = |to: &str| run("skopeo", &["--insecure-policy", "copy", "-q", "--src-tls-verify=false", from, to]);
    copy(&format!("docker-archive:{}:banner:v1", docker.display()));
    copy(&format!("oci-archive:{}:quay.io/libpod/banner:v1", oci.display()));
    let root = world.root("load");
    let load = |path: &Path| root.images().load(Input::Path(path), &Quiet).unwrap();
    // skopeo writes docker.io/library for an unqualified name of a docker archive.
    let names = load(&docker);
    assert_eq!(names, ["docker.io/library/banner:v1"]);
    let image = root.images().find("banner:v1").unwrap();
    assert_eq!(fs::read(image.layers[0].join("etc/motd")).unwrap(), b"hello");
    assert_eq!(load(&oci), ["quay.io/libpod/banner:v1"]);
    // One image under two names: ids are digests of configurations.
    assert_eq!(root.images().list().unwrap().len(), 1);
    // Compressed, from standard input, and as a directory without a name.
    let gz = dir.join("docker.tar.gz");
    fs::write(&gz, gzip(&fs::read(&docker).unwrap())).unwrap();
    assert_eq!(load(&gz), names);
    let mut stream = fs::File::open(&oci).unwrap();
    assert_eq!(root.images().load(Input::Reader(&mut stream), &Quiet).unwrap(), ["quay.io/libpod/banner:v1"]);
    assert_eq!(load(&dir.join("oci-libpod-banner-v1")), [format!("sha256:{}", image.id)]);
    assert_eq!(root.in_overlay(), ["1"]);
}

fn garbage(world: &World) {
    let root = world.root("garbage");
    let file = world.dir.path().join("garbage.tar");
    let said = |bytes: &[u8]| {
        fs::write(&file, bytes).unwrap();
        let said = root.images().load(Input::Path(&file), &Quiet).unwrap_err().to_string();
        assert!(!said.contains('\n'), "{said}");
        said
    };
    let formats =
        "payload does not match any of the supported image formats (docker-archive, oci-archive, oci directory, dir)";
    assert_eq!(said(b"root:x:0:0:root:/root:/bin/sh\n".repeat(100).as_slice()), formats);
    assert_eq!(said(&tar(&[("x", b"y")])), formats);
    assert_eq!(said(&tar(&[("manifest.json", b"[]")])), "the archive has no image");
    assert!(said(&tar(&[("manifest.json", b"[")])).starts_with("malformed manifest.json: "));
    assert!(said(&tar(&[("manifest.json", b"{")])).starts_with("malformed manifest: "));
    let missing =
        tar(&[("manifest.json", br#"[{"Config":"c.json","RepoTags":["a:b"],"Layers":["../../etc/passwd"]}]"#)]);
    assert_eq!(said(&missing), "the archive has no \"c.json\"");
    let whole = fs::read(world.dir.path().join("docker.tar")).unwrap();
    let cut = said(&whole[..whole.len() / 2]);
    assert!(cut.contains("cut short") || cut.contains("has no"), "{cut}");
    let said = root.images().load(Input::Path(Path::new("/nonexistent")), &Quiet).unwrap_err().to_string();
    assert_eq!(said, "/nonexistent: No such file or directory");
    root.is_empty();
}

fn imported(world: &World) {
    let root = world.root("import");
    let changes = ["CMD [\"httpd\"]".parse().unwrap(), "EXPOSE 80".parse().unwrap()];
    let import = Import {
        name: Some("imported"),
        changes: &changes,
        message: None,
        created: "2026-02-03T04:05:06Z".parse().unwrap(),
        platform: Platform::host(),
    };
    let mut tarball = std::io::Cursor::new(gzip(&tar(&[("www/index.html", b"hi")])));
    let id = root.images().import(&mut tarball, &import).unwrap();
    let image = root.images().find("imported").unwrap();
    assert_eq!((image.id, image.names.as_slice()), (id, &["localhost/imported:latest".to_owned()][..]));
    assert_eq!(fs::read(image.layers[0].join("www/index.html")).unwrap(), b"hi");
    let config = image.config.config().clone().unwrap();
    assert_eq!(config.cmd().clone().unwrap(), ["httpd"]);
    assert_eq!(config.exposed_ports().clone().unwrap(), ["80/tcp"]);
    assert_eq!(image.config.history().clone().unwrap()[0].comment().as_deref(), Some("imported from tarball"));
    let nameless = Import { name: None, ..import.clone() };
    tarball.set_position(0);
    root.images().import(&mut tarball, &nameless).unwrap();
    assert_eq!(root.in_overlay(), ["1"], "the same layer is there once");
    // Garbage and a bad name leave nothing behind.
    let before = root.in_overlay();
    assert!(root.images().import(&mut &b"not a tarball"[..], &import).is_err());
    let bad = Import { name: Some("Bad Name"), ..import };
    assert_eq!(root.images().import(&mut tarball, &bad).unwrap_err().to_string(), "invalid reference format");
    assert_eq!(root.in_overlay(), before);
}

fn found(world: &World) {
    let root = world.root("load");
    let images = root.images();
    let id = images.find("banner:v1").unwrap().id.to_string();
    for text in ["quay.io/libpod/banner:v1", "libpod/banner:v1", &id, &id[..12], &id[..2], &format!("sha256:{id}")] {
        assert_eq!(images.find(text).unwrap().id.to_string(), id, "{text}");
    }
    let said = |text: &str| images.find(text).unwrap_err().to_string();
    assert_eq!(said("banner"), "banner: image not known");
    assert_eq!(said("anner:v1"), "anner:v1: image not known");
    assert_eq!(said(&"0".repeat(64)), format!("{}: image not known", "0".repeat(64)));
    assert_eq!(said("Foo"), "repository name must be lowercase");
    // localhost/ comes before other registries.
    let mut tarball = std::io::Cursor::new(tar(&[("x", b"x")]));
    let import = Import {
        name: Some("banner:v1"),
        changes: &[],
        message: None,
        created: jiff::Timestamp::UNIX_EPOCH,
        platform: Platform::host(),
    };
    let local = images.import(&mut tarball, &import).unwrap();
    assert_eq!(images.find("banner:v1").unwrap().id, local);
    images.remove("localhost/banner:v1", false).unwrap();
}

fn removed(world: &World) {
    let root = world.root("load");
    let images = root.images();
    let id = images.find("banner:v1").unwrap().id;
    let names = images.by_id(&id).unwrap().names;
    assert_eq!(names, ["docker.io/library/banner:v1", "quay.io/libpod/banner:v1"]);
    assert_eq!(
        images.remove(&id.short(), false).unwrap_err().to_string(),
        format!(
            "unable to delete image \"{id}\" by ID with more than one tag ([{}]): please force removal",
            names.join(" ")
        )
    );
    let container = model::ContainerId::from_bytes([7; 32]);
    let row = store::ContainerRow {
        id: container,
        name: "web".parse().unwrap(),
        image: Some(id),
        state: "created".to_owned(),
        created: 0,
    };
    root.store.write(|tx| tx.container_insert(&row, &())).unwrap();
    // A name among several goes also when the image is in use.
    let removed = images.remove("quay.io/libpod/banner:v1", false).unwrap();
    assert_eq!((removed.untagged.as_slice(), removed.deleted.len()), (&["quay.io/libpod/banner:v1".to_owned()][..], 0));
    for force in [false, true] {
        let error = images.remove("banner:v1", force).unwrap_err();
        assert!(matches!(error, ImageError::InUse { .. }));
        assert_eq!(
            error.to_string(),
            format!(
                "image used by {container}: image is in use by a container: consider listing external containers and force-removing image"
            )
        );
    }
    root.store.write(|tx| tx.container_remove(&container)).unwrap();
    let removed = images.remove("banner:v1", false).unwrap();
    assert_eq!((removed.untagged, removed.deleted), (vec!["docker.io/library/banner:v1".to_owned()], vec![id]));
    assert_eq!(images.remove("banner:v1", false).unwrap_err().to_string(), "banner:v1: image not known");
    root.is_empty();
}

fn leftovers(world: &World) {
    let root = world.root("main");
    let overlay = root.path.join("overlay");
    // What a kill leaves at each of its moments: a number without an image, a directory without a number, a directory on its
    // way out, the file of a claim.
    let number = root.store.write(|tx| tx.layer_begin()).unwrap();
    fs::create_dir_all(overlay.join(number.to_string()).join("diff/deep")).unwrap();
    fs::create_dir_all(overlay.join("4711/diff")).unwrap();
    fs::create_dir_all(overlay.join(".going-1-1/x")).unwrap();
    fs::write(overlay.join("pull-0123456789ab"), "").unwrap();
    fs::create_dir_all(overlay.join("somebody-elses")).unwrap();
    assert_eq!(root.images().leftovers().unwrap(), 2);
    assert_eq!(root.in_overlay(), ["1", "somebody-elses"]);
    assert_eq!(root.images().leftovers().unwrap(), 0);
    assert_eq!(root.images().find("127.0.0.1:5000/libpod/banner:v1").unwrap().layers.len(), 1);
}

fn token(world: &World) {
    // A registry that answers 401 until the token is there, and the server that gives it, in one.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let realm = format!("http://{address}/token");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut stream = stream;
            let request = head(&mut stream);
            let denied = format!(
                "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Bearer realm=\"{realm}\",service=\"reg\"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            );
            let lower = request.to_ascii_lowercase();
            let answer = if request.starts_with("GET /token?") {
                assert!(
                    request.contains("service=reg") && request.contains("scope=repository%3Aa%2Fb%3Apull"),
                    "{request}"
                );
                // a:b
                let known = lower.contains("authorization: basic ytpi");
                match known {
                    true => "HTTP/1.1 200 OK\r\nContent-Length: 17\r\nConnection: close\r\n\r\n{\"token\":\"secret\"}"
                        .replace("17", "18"),
                    false => denied,
                }
            } else if lower.contains("authorization: bearer secret") {
                "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_owned()
            } else {
                denied
            };
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    let root = world.root("token");
    let auth = world.dir.path().join("auth.json");
    fs::write(&auth, format!("{{\"auths\": {{\"{address}\": {{\"auth\": \"YTpi\"}}}}}}")).unwrap();
    let pull = |auth_files: Vec<PathBuf>| {
        let machine = Machine { registries_conf: "/nonexistent".into(), auth_files, ..Machine::default() };
        let images = Images::open(&root.path, &root.store).unwrap().on(machine);
        images.pull(&format!("{address}/a/b"), &PullOptions::default(), &Quiet).unwrap_err().to_string()
    };
    // Past the 401: the manifest is what is missing now.
    assert!(pull(vec![auth]).ends_with("manifest unknown"), "with credentials");
    let said = pull(Vec::new());
    assert!(said.ends_with("unauthorized: authentication required"), "{said}");
}

fn certificates(world: &World) {
    if !Path::new("/usr/bin/openssl").exists() {
        eprintln!("SKIP certificates_are_checked_unless_told_otherwise: /usr/bin/openssl is missing");
        return;
    }
    let dir = world.dir.path();
    let path = |name: &str| dir.join(name).display().to_string();
    let san = "subjectAltName=IP:198.51.100.7";
    let (key, certificate) = (path("key.pem"), path("cert.pem"));
    let subject = [
        "-subj",
        "/CN=test",
        "-addext",
        san,
        "-addext",
        "basicConstraints=critical,CA:FALSE",
        "-days",
        "2",
        "-keyout",
        &key,
        "-out",
        &certificate,
    ];
    let new = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    run("openssl", &[&new[..], &subject[..]].concat());
    let config = format!(
        "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '198.51.100.7:5443', tls: {{certificate: {certificate}, key: {key}}}}}\n",
        path("registry")
    );
    fs::write(dir.join("tls.yml"), config).unwrap();
    let mut serve = Command::new("docker-registry");
    let mut server =
        serve.arg("serve").arg(dir.join("tls.yml")).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    while TcpStream::connect("198.51.100.7:5443").is_err() {
        std::thread::sleep(Duration::from_millis(20));
    }
    let root = world.root("tls");
    let name = "198.51.100.7:5443/libpod/banner:v1";
    let pull = |tls_verify: bool, certs_d: Vec<PathBuf>| {
        let machine = Machine { registries_conf: "/nonexistent".into(), certs_d, ..Machine::default() };
        let images = Images::open(&root.path, &root.store).unwrap().on(machine);
        images.pull(
            name,
            &PullOptions {
                access: Access { tls_verify: (!tls_verify).then_some(false), ..Access::default() },
                platform: None,
                policy: Policy::Always,
            },
            &Quiet,
        )
    };
    let said = pull(true, Vec::new()).unwrap_err().to_string();
    assert!(said.contains("certificate") && said.ends_with("use --tls-verify=false"), "{said}");
    root.is_empty();
    pull(false, Vec::new()).unwrap();
    root.images().remove(name, false).unwrap();
    let own = dir.join("certs.d/198.51.100.7:5443");
    fs::create_dir_all(&own).unwrap();
    fs::copy(&certificate, own.join("ca.crt")).unwrap();
    let trusted = pull(true, vec![dir.join("certs.d")]);
    let _ = server.kill();
    let _ = server.wait();
    trusted.unwrap();
}

fn full(world: &World) {
    let path = world.dir.path().join("root-full");
    fs::create_dir(&path).unwrap();
    run("mount", &["-t", "tmpfs", "-o", "size=1500k", "tmpfs", path.to_str().unwrap()]);
    let root = world.root("full");
    let said = root.pull("127.0.0.1:5000/libpod/banner:v1").unwrap_err().to_string();
    let where_ = format!("{}/overlay/1/diff/bin/busybox", path.display());
    assert_eq!(said, format!("{where_}: No space left on device"));
    root.is_empty();
    let mut archive = fs::File::open(world.dir.path().join("docker.tar")).unwrap();
    let said = root.images().load(Input::Reader(&mut archive), &Quiet).unwrap_err().to_string();
    assert_eq!(said, format!("{}/overlay: No space left on device", path.display()));
    root.is_empty();
    drop(root);
    run("umount", &[path.to_str().unwrap()]);
}

fn killed(world: &World) {
    let root = world.root("killed");
    let me = std::env::current_exe().unwrap();
    let (mut halves, mut whole) = (0, 0);
    for milliseconds in (0..16).map(|n| n * n * 3) {
        let mut child = Command::new(&me)
            .args(["--exact", "images_come_from_registries_and_archives"])
            .env(INSIDE, &root.path)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(milliseconds));
        child.kill().unwrap();
        child.wait().unwrap();
        halves += usize::from(root.images().leftovers().unwrap() > 0);
        match root.images().list().unwrap().as_slice() {
            [] => root.is_empty(),
            [image] => {
                whole += 1;
                assert_eq!(fs::read(image.layers[0].join("bin/busybox")).unwrap(), fs::read("/bin/busybox").unwrap());
                root.images().remove(&image.names[0], false).unwrap();
                root.is_empty();
            }
            many => panic!("{} images", many.len()),
        }
    }
    eprintln!("    of 16 kills, {halves} left something to remove and {whole} came after the end");
}

/// A TCP forwarder to the registry that breaks each connection after so many bytes of answer.
struct Forwarder {
    address: String,
}

fn forward(at: &str, break_after: usize) -> Forwarder {
    let listener = TcpListener::bind(at).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            std::thread::spawn(move || relay(client, break_after));
        }
    });
    Forwarder { address }
}

fn relay(mut client: TcpStream, break_after: usize) -> Option<()> {
    let mut server = TcpStream::connect(REGISTRY).ok()?;
    let (mut from, mut to) = (client.try_clone().ok()?, server.try_clone().ok()?);
    std::thread::spawn(move || std::io::copy(&mut from, &mut to));
    let mut left = break_after;
    let mut buffer = [0; 8192];
    while left > 0 {
        let n = server.read(&mut buffer).ok().filter(|n| *n > 0)?.min(left);
        client.write_all(&buffer[..n]).ok()?;
        left -= n;
    }
    let _ = client.shutdown(std::net::Shutdown::Both);
    let _ = server.shutdown(std::net::Shutdown::Both);
    Some(())
}

/// A server that answers everything with the same.
fn answer(text: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            head(&mut client);
            let _ = client.write_all(text.as_bytes());
        }
    });
    address
}

/// Reads a request's head.
fn head(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let mut byte = [0];
    while !bytes.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|n| n == 1) {
        bytes.push(byte[0]);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn put(path: &str, kind: &str, body: &[u8]) {
    let mut stream = TcpStream::connect(REGISTRY).unwrap();
    let length = body.len();
    write!(stream, "PUT {path} HTTP/1.1\r\nHost: {REGISTRY}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n").unwrap();
    stream.write_all(body).unwrap();
    let answer = head(&mut stream);
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
}

/// Adds an image to an OCI directory: its descriptor.
fn write_oci(oci: &Path, layers: &[Vec<u8>], platform: &str) -> serde_json::Value {
    let blobs = oci.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    fs::write(oci.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    let blob = |bytes: &[u8]| {
        let digest = images::Digest::of(bytes);
        fs::write(blobs.join(digest.hex()), bytes).unwrap();
        serde_json::json!({"digest": digest, "size": bytes.len()})
    };
    let (os, architecture) = platform.split_once('/').unwrap();
    let diff_ids: Vec<images::Digest> = layers.iter().map(|layer| images::Digest::of(&plain(layer))).collect();
    let config = serde_json::json!({
        "created": "2026-01-01T00:00:00Z", "os": os, "architecture": architecture,
        "config": {"Cmd": ["sh"]}, "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    let with = |mut descriptor: serde_json::Value, kind: &str| {
        descriptor["mediaType"] = kind.into();
        descriptor
    };
    let layers: Vec<_> = layers
        .iter()
        .map(|layer| {
            let compression = match layer.as_slice() {
                [0x1f, 0x8b, ..] => "+gzip",
                [0x28, 0xb5, ..] => "+zstd",
                _ => "",
            };
            with(blob(layer), &format!("application/vnd.oci.image.layer.v1.tar{compression}"))
        })
        .collect();
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": with(blob(config.to_string().as_bytes()), "application/vnd.oci.image.config.v1+json"),
        "layers": layers,
    });
    let mut descriptor = with(blob(manifest.to_string().as_bytes()), "application/vnd.oci.image.manifest.v1+json");
    descriptor["platform"] = serde_json::json!({"os": os, "architecture": architecture});
    descriptor
}

fn write_index(oci: &Path, manifests: &[serde_json::Value]) {
    let index = serde_json::json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": manifests});
    fs::write(oci.join("index.json"), index.to_string()).unwrap();
}

fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (path, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o755);
        header.set_uid(0);
        header.set_gid(0);
        archive.append_data(&mut header, path, *content).unwrap();
    }
    archive.into_inner().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn plain(layer: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    match layer {
        [0x1f, 0x8b, ..] => drop(flate2::read::GzDecoder::new(layer).read_to_end(&mut bytes).unwrap()),
        [0x28, 0xb5, ..] => bytes = zstd::decode_all(layer).unwrap(),
        _ => bytes = layer.to_vec(),
    }
    bytes
}

/// Bytes that do not compress.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()[0]
    };
    (0..length).map(|_| next()).collect()
}

fn run(program: &str, arguments: &[&str]) {
    output(program, arguments);
}

fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    assert!(output.status.success(), "{program} {arguments:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

fn unverified() -> Access {
    Access { tls_verify: Some(false), ..Access::default() }
}
