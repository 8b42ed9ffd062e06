//! Images that leave: save and push, with passwords, certificates and everybody's formats.

use lab::registry::{IMAGE as REMOTE, SECURE, USER};
use lab::trial::{Need, Sentence};
use lab::{Lab, LabOptions, Run, sentences};

use crate::words::{archive, load, load_for_user};

pub(crate) fn sentences() -> Vec<Sentence> {
    let mut all = sentences![LabOptions::default(); &[Need::Registry];
        a_pushed_image_is_what_skopeo_finds_there,
        an_image_keeps_its_id_through_a_registry_and_every_format,
        a_push_to_where_the_layers_are_sends_none,
        a_registry_of_an_unknown_authority_is_refused_until_certs_d_knows_it,
        a_login_is_tried_before_it_is_written_down,
        a_helper_program_keeps_the_password,
        a_mirror_is_asked_first_and_the_registry_when_it_has_nothing,
        all_tags_of_a_repository_are_pulled,
        what_a_registry_has_is_searched,
        a_push_through_a_line_that_breaks_is_sent_again,
        a_proxy_is_asked_unless_no_proxy_names_the_registry,
    ];
    all.extend(sentences![LabOptions::default(); &[];
        a_saved_archive_has_several_images_and_names,
        a_save_that_fails_leaves_no_file,
        a_layer_whose_files_were_changed_is_not_given_away,
        what_save_and_push_cannot_do_is_one_clear_line,
    ]);
    all.extend(sentences![LabOptions { user: true, ..LabOptions::default() }; &[];
        an_ordinary_user_saves_what_he_loaded,
    ]);
    all
}

fn ok(lab: &Lab, line: &str) -> String {
    lab.ok(line).trim().to_owned()
}

fn id_of(lab: &Lab, name: &str) -> String {
    ok(lab, &format!("podwire image inspect -f '{{{{.Id}}}}' {name}"))
}

/// Logs in at the secure registry, whose authority is trusted from here on.
fn at_home(lab: &Lab) {
    lab.host(&format!("mkdir -p /run/certs && cp {}/ca.crt /run/certs/", lab.dir().display())).ok();
    login(lab, "").ok().says("Login Succeeded!");
}

fn login(lab: &Lab, flags: &str) -> Run {
    let (user, password) = USER;
    lab.host(&format!(
        "echo {password} | podwire login {flags} --cert-dir /run/certs -u {user} --password-stdin {SECURE}"
    ))
}

fn a_pushed_image_is_what_skopeo_finds_there(lab: &Lab) {
    let _registry = lab.secure_registry();
    load(lab);
    at_home(lab);
    let id = id_of(lab, "banner");
    let push = "podwire push --cert-dir /run/certs --digestfile /run/digest";
    lab.host(&format!("{push} banner {SECURE}/team/banner:v1")).ok();
    let digest = ok(lab, "cat /run/digest");
    let (user, password) = USER;
    let look = format!("skopeo inspect --cert-dir /run/certs --creds {user}:{password}");
    let seen = ok(lab, &format!("{look} -f '{{{{.Digest}}}}' docker://{SECURE}/team/banner:v1"));
    assert_eq!(seen, digest, "the digest that was written");
    let config = lab.host(&format!("{look} --raw docker://{SECURE}/team/banner:v1")).ok();
    config.says(&format!("sha256:{id}"));
    // A copy checks every digest.
    let copy = format!("skopeo --insecure-policy copy -q --src-cert-dir /run/certs --src-creds {user}:{password}");
    lab.host(&format!("{copy} docker://{SECURE}/team/banner:v1 dir:/run/copy")).ok();
    for (flags, kind) in [("--format oci", "oci.image.manifest"), ("--format v2s2", "docker.distribution.manifest")] {
        lab.host(&format!("{push} {flags} banner {SECURE}/team/banner:kind")).ok();
        lab.host(&format!("{look} --raw docker://{SECURE}/team/banner:kind")).ok().says(kind);
    }
    lab.host(&format!("{push} --compression-format zstd banner {SECURE}/team/banner:zstd")).ok();
    lab.host(&format!("{look} --raw docker://{SECURE}/team/banner:zstd")).ok().says("tar+zstd");
    lab.host("podwire rmi -f banner").ok();
    lab.host(&format!("podwire pull -q --cert-dir /run/certs {SECURE}/team/banner:zstd")).ok().says(&id);
    lab.host(&format!("podwire run --rm {SECURE}/team/banner:zstd echo here")).ok().says("here");
}

fn an_image_keeps_its_id_through_a_registry_and_every_format(lab: &Lab) {
    let _registry = lab.registry(&archive());
    lab.host(&format!("podwire pull -q {REMOTE}")).ok();
    let id = id_of(lab, REMOTE);
    for (format, transport) in [
        ("docker-archive", "docker-archive"),
        ("oci-archive", "oci-archive"),
        ("oci-dir", "oci"),
        ("docker-dir", "dir"),
    ] {
        let at = format!("/run/saved-{format}");
        lab.host(&format!("podwire save -q --format {format} -o {at} {REMOTE}")).ok();
        // skopeo compares every digest while it copies.
        lab.host(&format!("skopeo --insecure-policy copy -q {transport}:{at} dir:/run/copy-{format}")).ok();
        lab.host("podwire rmi -f -a").ok();
        let loaded = lab.host(&format!("podwire load -q -i {at}")).ok();
        let name = if format == "docker-dir" { id.as_str() } else { REMOTE };
        loaded.says(name);
        assert_eq!(id_of(lab, name), id, "{format}");
        lab.host(&format!("podwire run --rm {id} echo here")).ok().says("here");
        lab.host("podwire rmi -f -a").ok();
        let pulled = ok(lab, &format!("podwire pull -q {transport}:{at}"));
        assert_eq!(pulled, id, "pulled from {transport}");
        lab.host(&format!("podwire tag {id} {REMOTE}")).ok();
    }
    lab.host(&format!("podwire save {REMOTE} | podwire load -q")).ok().says(REMOTE);
    lab.host(&format!("podwire push -q {REMOTE} dir:/run/pushed")).ok();
    lab.host("skopeo inspect dir:/run/pushed").ok();
}

fn a_push_to_where_the_layers_are_sends_none(lab: &Lab) {
    let _registry = lab.registry(&archive());
    lab.host(&format!("podwire pull -q {REMOTE}")).ok();
    // Under another name at the same registry: the blobs are there, and so the manifest needs no change.
    let digest = ok(lab, &format!("skopeo inspect --tls-verify=false -f '{{{{.Digest}}}}' docker://{REMOTE}"));
    let said = lab.host(&format!("podwire push --digestfile /run/d {REMOTE} 127.0.0.1:5000/other/name")).ok();
    assert!(said.err.contains("skipped: already exists"), "{}", said.err);
    assert_eq!(ok(lab, "cat /run/d"), digest);
    // What was packed once is not packed again.
    load(lab);
    lab.host("podwire push banner 127.0.0.1:5000/packed:1").ok();
    let again = lab.host("podwire push banner 127.0.0.1:5000/packed:2").ok();
    assert!(again.err.contains("skipped: already exists"), "{}", again.err);
}

fn a_registry_of_an_unknown_authority_is_refused_until_certs_d_knows_it(lab: &Lab) {
    let _registry = lab.secure_registry();
    load(lab);
    let (user, password) = USER;
    let push = format!("podwire push -q --creds {user}:{password} banner {SECURE}/banner");
    lab.host(&push).refuses(125, "certificate");
    lab.host(&format!("{push} --tls-verify=false")).ok();
    lab.host(&format!("podwire pull -q --creds {user}:{password} {SECURE}/banner")).refuses(125, "certificate");
    let ca = format!("{}/ca.crt", lab.dir().display());
    lab.host(&format!("mkdir -p /etc/containers/certs.d/{SECURE} && cp {ca} /etc/containers/certs.d/{SECURE}/")).ok();
    lab.host(&push).ok();
    lab.host(&format!("podwire pull -q --creds {user}:{password} {SECURE}/banner")).ok();
    lab.host(&format!("podwire pull -q --creds {user}:wrong {SECURE}/banner")).refuses(125, "unauthorized");
    lab.host(&format!("podwire pull -q {SECURE}/banner")).refuses(125, "unauthorized");
}

fn a_login_is_tried_before_it_is_written_down(lab: &Lab) {
    let _registry = lab.secure_registry();
    lab.host(&format!("mkdir -p /run/certs && cp {}/ca.crt /run/certs/", lab.dir().display())).ok();
    lab.host(&format!("podwire login --cert-dir /run/certs -u alice -p wrong {SECURE}"))
        .refuses(125, &format!("logging into \"{SECURE}\": invalid username/password"));
    lab.host(&format!("podwire login --get-login {SECURE}")).refuses(125, &format!("not logged into {SECURE}"));
    login(lab, "-v").ok().says("Used:  ");
    assert_eq!(ok(lab, &format!("podwire login --get-login {SECURE}")), "alice");
    lab.host(&format!("podwire login --cert-dir /run/certs {SECURE}"))
        .ok()
        .says(&format!("Existing credentials are valid. Already logged in to {SECURE}"));
    let place = "if [ -n \"$XDG_RUNTIME_DIR\" ]; then echo $XDG_RUNTIME_DIR; else echo /run; fi";
    let file = format!("$({place})/containers");
    assert_eq!(ok(lab, &format!("stat -c %a $(find {file} -name auth.json)")), "600");
    lab.host(&format!("podwire logout {SECURE}")).ok().says(&format!("Removed login credentials for {SECURE}"));
    lab.host(&format!("podwire logout {SECURE}")).refuses(125, &format!("not logged into {SECURE}"));
    login(lab, "--authfile /run/mine.json").ok();
    lab.host(&format!("podwire login --get-login {SECURE}")).refuses(125, "not logged into");
    assert_eq!(ok(lab, &format!("podwire login --authfile /run/mine.json --get-login {SECURE}")), "alice");
    lab.host("podwire logout --all --authfile /run/mine.json").ok();
    lab.host("cat /run/mine.json").ok().says("\"auths\": {}");
}

/// `docker-credential-file`, for who has no keyring: one file per registry.
const CREDENTIAL_PROGRAM: &str = r#"#!/usr/bin/python3
import json, os, sys
word, text = sys.argv[1], sys.stdin.read()
key = (json.loads(text)["ServerURL"] if word == "store" else text).replace("/", "_").strip()
path = "/run/secrets-" + key
if word == "store":
    open(path, "w").write(text)
elif word == "erase":
    os.remove(path)
elif os.path.exists(path):
    print(open(path).read())
else:
    print("credentials not found in native keychain")
    sys.exit(1)
"#;

fn a_helper_program_keeps_the_password(lab: &Lab) {
    let _registry = lab.secure_registry();
    load(lab);
    std::fs::write(lab.dir().join("program"), CREDENTIAL_PROGRAM).expect("the lab's directory can be written");
    let program = "/run/bin/docker-credential-file";
    lab.host(&format!("mkdir -p /run/bin && install -m 755 {}/program {program}", lab.dir().display())).ok();
    lab.host(&format!("mkdir -p /run/certs && cp {}/ca.crt /run/certs/", lab.dir().display())).ok();
    lab.host("echo '{\"credsStore\": \"file\"}' > /run/auth.json").ok();
    let with = "PATH=/run/bin:$PATH REGISTRY_AUTH_FILE=/run/auth.json podwire";
    let (user, password) = USER;
    lab.host(&format!("{with} login --cert-dir /run/certs -u {user} -p {password} {SECURE}")).ok();
    let file = ok(lab, "cat /run/auth.json");
    assert!(file.contains(SECURE) && !file.contains("\"auth\":"), "{file}");
    lab.host(&format!("{with} push -q --cert-dir /run/certs banner {SECURE}/kept")).ok();
    lab.host(&format!("{with} logout {SECURE}")).ok();
    assert_eq!(ok(lab, "ls /run | grep -c secrets- || true"), "0");
    lab.host(&format!("{with} push -q --cert-dir /run/certs banner {SECURE}/kept")).refuses(125, "unauthorized");
}

fn a_mirror_is_asked_first_and_the_registry_when_it_has_nothing(lab: &Lab) {
    let _registry = lab.registry(&archive());
    let conf = "[[registry]]\nprefix = \"far.example\"\nlocation = \"127.0.0.1:5000\"\n\
                [[registry.mirror]]\nlocation = \"127.0.0.1:5000/near\"\n";
    std::fs::write(lab.dir().join("registries.conf"), conf).expect("the lab's directory can be written");
    let with = format!("CONTAINERS_REGISTRIES_CONF={}/registries.conf podwire", lab.dir().display());
    // Only the registry itself has it.
    lab.host(&format!("{with} pull -q far.example/libpod/banner")).ok();
    load(lab);
    lab.host("podwire push -q banner 127.0.0.1:5000/near/only:here").ok();
    lab.host(&format!("{with} pull -q far.example/only:here")).ok();
    lab.host("podwire image exists far.example/only:here").ok();
    lab.host(&format!("{with} pull -q far.example/nowhere")).refuses(125, "Mirrors also failed");
}

fn all_tags_of_a_repository_are_pulled(lab: &Lab) {
    let _registry = lab.registry(&archive());
    load(lab);
    for tag in ["one", "two"] {
        lab.host(&format!("podwire push -q banner {REMOTE}:{tag}")).ok();
    }
    lab.host(&format!("podwire pull -q -a {REMOTE}")).ok();
    for tag in ["one", "two", "latest"] {
        lab.host(&format!("podwire image exists {REMOTE}:{tag}")).ok();
    }
    lab.host(&format!("podwire pull -q -a {REMOTE}:one")).refuses(125, "tag can't be used with --all-tags/-a");
    // What is here is good enough, or must be.
    lab.host(&format!("podwire pull -q --policy never {REMOTE}:one")).ok();
    lab.host(&format!("podwire pull -q --policy never {REMOTE}:three")).refuses(125, "image not known");
    lab.host(&format!("podwire pull -q --policy missing {REMOTE}:one")).ok();
    lab.host(&format!("podwire pull -q --policy maybe {REMOTE}:one")).refuses(125, "unsupported pull policy");
    lab.host(&format!("podwire pull -q --arch arm64 {REMOTE}:one")).ok();
}

fn what_a_registry_has_is_searched(lab: &Lab) {
    let _registry = lab.registry(&archive());
    lab.host("podwire search 127.0.0.1:5000/bann").ok().says("NAME                          DESCRIPTION").says(REMOTE);
    assert_eq!(ok(lab, "podwire search 127.0.0.1:5000/nothing"), "");
    lab.host(&format!("podwire search --list-tags {REMOTE}")).ok().says("latest");
    lab.host("podwire search --format json 127.0.0.1:5000/").ok().says("\"Index\": \"127.0.0.1:5000\"");
    lab.host("podwire search --filter stars=1 127.0.0.1:5000/bann").ok();
    lab.host("podwire search 127.0.0.1:5001/bann").refuses(125, "connection refused");
}

fn a_push_through_a_line_that_breaks_is_sent_again(lab: &Lab) {
    let _registry = lab.registry(&archive());
    load(lab);
    // The first two connections with a body end in the middle of it.
    let breaker = r#"
import socket, threading
server = socket.create_server(("127.0.0.1", 5002), backlog=32)
broken = [0]
def pump(a, b, limit):
    passed = 0
    try:
        while True:
            data = a.recv(65536)
            if not data: break
            passed += len(data)
            if limit and passed > 100000 and broken[0] < 2:
                broken[0] += 1
                break
            b.sendall(data)
    except OSError:
        pass
    for s in (a, b):
        try: s.shutdown(socket.SHUT_RDWR)
        except OSError: pass
while True:
    client, _ = server.accept()
    there = socket.create_connection(("127.0.0.1", 5000))
    threading.Thread(target=pump, args=(client, there, True), daemon=True).start()
    threading.Thread(target=pump, args=(there, client, False), daemon=True).start()
"#;
    std::fs::write(lab.dir().join("breaker.py"), breaker).expect("the lab's directory can be written");
    let _breaker = lab.background(&format!("exec python3 {}/breaker.py", lab.dir().display()));
    lab.quietly("for n in $(seq 100); do curl -sf http://127.0.0.1:5002/v2/ >/dev/null && break; sleep 0.05; done")
        .ok();
    lab.host("podwire push -q banner 127.0.0.1:5002/broken").ok();
    let copy = "skopeo --insecure-policy copy -q --src-tls-verify=false";
    lab.host(&format!("{copy} docker://127.0.0.1:5000/broken dir:/run/copy")).ok();
}

/// A proxy that connects and writes down to where.
const PROXY: &str = r#"
import socket, threading
def pump(a, b):
    try:
        while data := a.recv(65536): b.sendall(data)
    except OSError: pass
    for s in (a, b):
        try: s.shutdown(socket.SHUT_RDWR)
        except OSError: pass
def serve(client):
    head = b""
    while b"\r\n\r\n" not in head:
        data = client.recv(4096)
        if not data: return
        head += data
    word, where = head.split()[:2]
    open("/run/proxied", "ab").write(word + b" " + where + b"\n")
    host, port = where.decode().rsplit(":", 1)
    there = socket.create_connection((host, int(port)))
    client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
    threading.Thread(target=pump, args=(client, there), daemon=True).start()
    pump(there, client)
server = socket.create_server(("127.0.0.1", 3128))
open("/run/proxied", "w")
while True:
    threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()
"#;

fn a_proxy_is_asked_unless_no_proxy_names_the_registry(lab: &Lab) {
    let _registry = lab.secure_registry();
    load(lab);
    at_home(lab);
    std::fs::write(lab.dir().join("proxy.py"), PROXY).expect("the lab's directory can be written");
    let _proxy = lab.background(&format!("exec python3 {}/proxy.py", lab.dir().display()));
    lab.quietly("for n in $(seq 100); do test -e /run/proxied && exit 0; sleep 0.05; done; exit 1").ok();
    let push = format!("podwire push -q --cert-dir /run/certs banner {SECURE}/proxied");
    lab.host(&format!("NO_PROXY=192.168.99.109 HTTPS_PROXY=http://127.0.0.1:3128 {push}")).ok();
    assert_eq!(ok(lab, "cat /run/proxied"), "");
    lab.host(&format!("HTTPS_PROXY=http://127.0.0.1:3128 {push}")).ok();
    lab.host("cat /run/proxied").ok().says(&format!("CONNECT {SECURE}"));
    lab.host(&format!("HTTPS_PROXY=http://127.0.0.1:3129 {push}")).refuses(125, "connection refused");
}

fn a_saved_archive_has_several_images_and_names(lab: &Lab) {
    load(lab);
    lab.host("mkdir /run/tree && echo hi > /run/tree/f && tar -C /run/tree -cf /run/tree.tar f").ok();
    lab.host("podwire import -q /run/tree.tar localhost/second").ok();
    let ids = [id_of(lab, "banner"), id_of(lab, "second")];
    for format in ["docker-archive", "oci-archive"] {
        lab.host(&format!("podwire save -q -m --format {format} -o /run/{format} banner second")).ok();
        lab.host("podwire rmi -f -a").ok();
        let said = lab.host(&format!("podwire load -q -i /run/{format}")).ok();
        said.says("Loaded image: localhost/banner:latest");
        assert_eq!([id_of(lab, "banner"), id_of(lab, "second")], ids, "{format}");
    }
    lab.host("podwire save -q -o /run/names banner alias other:v2").ok();
    lab.host("podwire rmi -f -a").ok();
    lab.host("podwire load -q -i /run/names").ok();
    assert_eq!(id_of(lab, "localhost/other:v2"), ids[0]);
    assert_eq!(id_of(lab, "localhost/alias"), ids[0]);
    // The same image gives the same bytes.
    lab.host("podwire save -q -o /run/again banner alias other:v2 && cmp /run/names /run/again").ok();
}

fn a_save_that_fails_leaves_no_file(lab: &Lab) {
    load(lab);
    lab.host("mkdir /run/small && mount -t tmpfs -o size=256k none /run/small").ok();
    lab.host("podwire save -q -o /run/small/image.tar banner").refuses(125, "No space left on device");
    assert_eq!(ok(lab, "ls -A /run/small"), "");
    lab.host("podwire save -q --format oci-dir -o /run/small/layout banner").refuses(125, "No space left on device");
    assert_eq!(ok(lab, "find /run/small -type f"), "");
    lab.host("podwire save -q banner > /dev/full").refuses(125, "No space left on device");
    lab.host("podwire save -q -o /run/image.tar nothing").refuses(125, "nothing: image not known");
    lab.host("test ! -e /run/image.tar").ok();
}

fn a_layer_whose_files_were_changed_is_not_given_away(lab: &Lab) {
    load(lab);
    let diff = ok(lab, "podwire image inspect -f '{{.GraphDriver.Data.UpperDir}}' banner");
    lab.host(&format!("f=$(find {diff} -type f -size +0 | head -1); printf X | dd of=$f conv=notrunc 2>/dev/null"))
        .ok();
    lab.host("podwire save -q -o /run/image.tar banner").refuses(125, "its files were changed since it was unpacked");
    lab.host("test ! -e /run/image.tar").ok();
}

fn what_save_and_push_cannot_do_is_one_clear_line(lab: &Lab) {
    load(lab);
    lab.host("podwire save").refuses(125, "need at least 1 argument");
    lab.host("podwire save --format zip banner").refuses(125, "format value must be one of");
    lab.host("podwire save --compress -o /run/x banner").refuses(125, "--compress can only be set");
    lab.host("podwire save --format oci-dir banner").refuses(125, "needs --output");
    lab.host("podwire save -q -o /run/x.tar banner").ok();
    lab.host("podwire save -q -o /run/x.tar banner").refuses(125, "docker-archive doesn't support modifying");
    lab.host("mkdir -p /run/mine && touch /run/mine/file").ok();
    lab.host("podwire save -q --format docker-dir -o /run/mine banner").refuses(125, "not empty");
    lab.host("podwire push banner docker-daemon:x").refuses(125, "pushing to docker-daemon: is not supported");
    lab.host("podwire push --format v2s1 banner dir:/run/y").refuses(125, "schema 1");
    lab.host("podwire push --compression-format xz banner dir:/run/y").refuses(125, "gzip and zstd are");
    lab.host("podwire push --format v2s2 --compression-format zstd banner dir:/run/y")
        .refuses(125, "needs an OCI manifest");
    lab.host("podwire push --authfile /nowhere banner dir:/run/y").refuses(125, "credential file is not accessible");
    lab.host("podwire push banner 127.0.0.1:5009/x").refuses(125, "connection refused");
    let id = id_of(lab, "banner");
    lab.host(&format!("podwire push {id}")).refuses(125, "say where to push it to");
}

fn an_ordinary_user_saves_what_he_loaded(lab: &Lab) {
    load_for_user(lab);
    let id = lab.user("podwire image inspect -f '{{.Id}}' banner").ok().out.trim().to_owned();
    lab.user("podwire save -q banner > $HOME/saved.tar").ok();
    lab.user("podwire rmi banner").ok();
    lab.user("podwire load -q -i $HOME/saved.tar").ok().says("localhost/banner:latest");
    assert_eq!(lab.user("podwire image inspect -f '{{.Id}}' banner").ok().out.trim(), id);
}
