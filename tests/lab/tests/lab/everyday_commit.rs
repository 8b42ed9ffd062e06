//! What a container changed: diff, commit, export.

use lab::trial::{Need, Sentence};
use lab::{Lab, LabOptions, Run, sentences};

use crate::words::{eventually, load, load_for_user};

pub(crate) fn sentences() -> Vec<Sentence> {
    let mut all = sentences![LabOptions::default(); &[];
        a_container_becomes_an_image_that_has_what_it_changed,
        how_a_committed_image_is_run_is_how_the_container_was,
        an_image_of_a_container_with_users_of_its_own_has_owners_as_inside,
        what_cannot_be_committed_or_exported_is_refused_in_podmans_words,
    ];
    all.extend(sentences![LabOptions::default(); &[Need::Registry];
        a_committed_image_is_one_for_skopeo_too,
    ]);
    all.extend(sentences![LabOptions { user: true, ..LabOptions::default() }; &[Need::UidMap];
        an_ordinary_users_container_becomes_an_image_too,
    ]);
    all
}

/// New, changed, deleted, replaced, linked, and with attributes of all kinds.
const CHANGES: &str = "echo hi >/new; chown 5:6 /new; chmod 4755 /new; rm /www/index.html; rm -r /tmp; mkdir /tmp; \
                       mkdir /d; echo x >/d/f; ln /d/f /d/g; ln -s //odd/./link /d/l";

/// Before and after its end: a container as a list of changes, an archive and two images.
fn tried(run: &dyn Fn(&str) -> Run, file: &str) {
    let ok = |command: &str| run(command).ok().out.trim().to_owned();
    ok(&format!(
        "podwire run -d --name c --network none -v data:/data banner sh -c '{CHANGES}; touch /data/in; sleep 1000'"
    ));
    for state in ["running", "exited"] {
        let said = eventually(|| run("podwire diff c"), |run| run.out.contains("A /d/l"));
        let changes: Vec<&str> = said.out.lines().collect();
        for line in ["A /new", "A /d", "A /d/g", "D /www/index.html", "C /www"] {
            assert!(changes.contains(&line), "{state}: no {line} in {changes:?}");
        }
        for line in ["/etc/hosts", "/proc", "/etc/resolv.conf", "/data/in", "/bin"] {
            assert!(!changes.iter().any(|change| change.ends_with(line)), "{state}: {line} in {changes:?}");
        }
        assert!(ok("podwire diff --format json c").contains("\"deleted\": ["));
        // The archive has owners, links and modes, and nothing of volumes.
        ok(&format!("podwire export -o {file} c"));
        let listed = ok(&format!("tar tvf {file} --numeric-owner"));
        assert!(listed.lines().any(|line| line.starts_with("-rwsr-xr-x 5/6 ") && line.ends_with(" new")), "{listed}");
        assert!(listed.contains("d/g link to d/f") && listed.contains("d/l -> //odd/./link"), "{listed}");
        assert!(!listed.contains("data/in") && !listed.contains("index.html") && !listed.contains(".wh."), "{listed}");
        assert_eq!(
            ok(&format!("podwire export c | md5sum; md5sum <{file}"))
                .lines()
                .collect::<std::collections::BTreeSet<_>>()
                .len(),
            1
        );
        for (kind, layers) in [("", 2), ("--squash", 1)] {
            ok(&format!("podwire commit -q {kind} c made"));
            assert_eq!(ok("podwire image inspect -f '{{len .RootFS.Layers}}' made"), layers.to_string());
            let inside = ok(
                "podwire run --rm --network none --entrypoint sh made -c 'stat -c \"%a %u %g\" /new; ls /www /tmp; stat -c %h /d/f; readlink /d/l; ls /data'",
            );
            assert_eq!(inside, "4755 5 6\n/tmp:\n\n/www:\n2\n//odd/./link", "{state} {kind}");
            ok("podwire rmi made");
        }
        if state == "running" {
            ok("podwire stop -t 0 c");
        }
    }
    // Of an image it is told what its topmost layer changed; of two, what is different.
    ok("podwire commit c made");
    assert!(ok("podwire diff made").contains("D /www/index.html"));
    assert!(ok("podwire image diff made banner").contains("A /new"));
    assert!(ok("podwire container diff c made; podwire diff c banner").contains("A /new"));
}

fn a_container_becomes_an_image_that_has_what_it_changed(lab: &Lab) {
    load(lab);
    let file = format!("{}/c.tar", lab.dir().display());
    tried(&|command| lab.host(command), &file);
}

fn an_ordinary_users_container_becomes_an_image_too(lab: &Lab) {
    load_for_user(lab);
    tried(&|command| lab.user(command), "c.tar");
}

fn how_a_committed_image_is_run_is_how_the_container_was(lab: &Lab) {
    load(lab);
    lab.host("podwire run -d --name c --network none -e B=2 -l x=y -w /www -u web --expose 99 -v data:/data banner sleep 1000").ok();
    let id =
        lab.ok("podwire commit -a me -c 'ENV C=3' -c 'CMD [\"sleep\",\"7\"]' -c LABEL=z=1 --iidfile /run/iid c one");
    assert_eq!(lab.ok("cat /run/iid"), id.trim());
    let shown = |field: &str, image: &str| lab.ok(&format!("podwire image inspect -f '{{{{json {field}}}}}' {image}"));
    let config = shown(".Config", "one");
    for part in [
        "\"User\":\"web\"",
        "\"WorkingDir\":\"/www\"",
        "\"B=2\"",
        "\"C=3\"",
        "\"container=podman\"",
        "\"99/tcp\":{}",
        "\"Cmd\":[\"sleep\",\"7\"]",
        "\"x\":\"y\"",
        "\"z\":\"1\"",
    ] {
        assert!(config.contains(part), "no {part} in {config}");
    }
    assert!(!config.contains("HOSTNAME=") && !config.contains("/data"), "{config}");
    assert_eq!(shown(".Author", "one").trim(), "\"me\"");
    assert_eq!(shown(".ManifestType", "one").trim(), "\"application/vnd.oci.image.manifest.v1+json\"");
    assert!(lab.ok("podwire history one").contains("FROM localhost/banner:latest"));
    lab.host("podwire commit -p -f docker -m hello --include-volumes c two").ok();
    assert_eq!(shown(".Comment", "two").trim(), "\"hello\"");
    assert_eq!(shown(".ManifestType", "two").trim(), "\"application/vnd.docker.distribution.manifest.v2+json\"");
    assert!(shown(".Config.Volumes", "two").contains("/data"));
    assert_eq!(lab.ok("podwire ps --format '{{.State}}'"), "running", "it goes on after the pause");
    lab.host("podwire run --rm --network none one env").ok().says("C=3");
    // One without a name, and the event.
    let id = lab.ok("podwire commit -q c");
    lab.host(&format!("podwire image exists {id}")).ok();
    assert!(lab.ok("podwire events --stream=false --filter event=commit").contains("container commit"));
    // Twice the same is one layer.
    let layers = || lab.ok("ls /var/lib/podwire/overlay | grep -c '^[0-9]'");
    lab.host("podwire stop -t 0 c && podwire commit c again").ok();
    let before = layers();
    lab.host("podwire commit c again").ok();
    assert_eq!(layers(), before);
    // The image cannot go before the container, nor a layer that another image has.
    lab.host("podwire rm c && podwire rmi banner && podwire run --rm --network none one true").ok();
}

fn an_image_of_a_container_with_users_of_its_own_has_owners_as_inside(lab: &Lab) {
    load(lab);
    lab.host(&format!("podwire run -d --name u --network none --uidmap 0:100000:2000 banner sh -c '{CHANGES}; chmod 700 /bin/busybox; sleep 1000'")).ok();
    eventually(|| lab.host("podwire diff u"), |run| run.out.contains("C /bin/busybox"));
    lab.host("podwire commit u made").ok();
    let inside = "stat -c '%a %u %g' /new /bin/busybox";
    lab.host(&format!("podwire run --rm --network none --entrypoint sh made -c \"{inside}\""))
        .ok()
        .says("4755 5 6\n700 0 0");
    let listed = lab.ok("podwire export u | tar tv --numeric-owner");
    assert!(!listed.contains("100000"), "{listed}");
}

fn a_committed_image_is_one_for_skopeo_too(lab: &Lab) {
    load(lab);
    lab.host(&format!("podwire run --name c --network none banner sh -c '{CHANGES}'")).ok();
    for format in ["oci", "docker"] {
        lab.host(&format!("podwire commit -f {format} c {format}")).ok();
        let dir = lab.dir().display();
        lab.host(&format!("podwire push {format} dir:{dir}/{format}")).ok();
        lab.host(&format!("skopeo inspect dir:{dir}/{format}")).ok().says("\"Layers\"");
        lab.host(&format!("skopeo copy --insecure-policy dir:{dir}/{format} oci:{dir}/oci-{format}")).ok();
        let again = lab.ok(&format!("podwire pull -q oci:{dir}/oci-{format}"));
        lab.host(&format!("podwire run --rm --network none --entrypoint sh {again} -c 'cat /new; ls /www'"))
            .ok()
            .says("hi");
    }
}

fn what_cannot_be_committed_or_exported_is_refused_in_podmans_words(lab: &Lab) {
    load(lab);
    lab.host("podwire create --name c banner").ok();
    lab.host("podwire commit nope").refuses(125, "no container with name or ID \"nope\" found: no such container");
    lab.host("podwire commit").refuses(125, "accepts between 1 and 2 arg(s), received 0");
    lab.host("podwire commit -f foo c").refuses(125, "unrecognized image format \"foo\"");
    lab.host("podwire commit -m text c")
        .refuses(125, "messages are only compatible with the docker image format (-f docker)");
    lab.host("podwire commit -c 'FROM x' c").refuses(125, "invalid change \"FROM x\" - invalid instruction FROM");
    lab.host("podwire commit c UPPER").refuses(125, "repository name must be lowercase");
    lab.host("podwire export nope").refuses(125, "no such container");
    lab.host("podwire export -o a:b c").refuses(125, "invalid filename (should not contain ':')");
    lab.host("podwire export -o /no/such/file c").refuses(125, "o such file or directory");
    lab.host("podwire diff").refuses(125, "requires a name, id, or the \"--latest\" flag");
    lab.host("podwire diff nope").refuses(125, "nope not found: layer not known");
    lab.host("podwire container diff banner").refuses(125, "banner not found: container not known");
    lab.host("podwire diff --format yaml c").refuses(125, "only supported value for '--format' is 'json'");
    // One that has never run has its image's files.
    lab.host("podwire export c | tar t www/index.html").ok();
    assert_eq!(lab.ok("podwire diff c"), "");
    // A file that cannot be written whole is not there.
    lab.host("mkdir /run/small && mount -t tmpfs -o size=200k tmpfs /run/small").ok();
    lab.host("podwire export -o /run/small/x c").refuses(125, "o space left on device");
    assert_eq!(lab.ok("ls -A /run/small"), "");
}
