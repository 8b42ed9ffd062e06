//! Images here: their names, what is shown of them, and how they go.

use lab::trial::Sentence;
use lab::{Lab, LabOptions, sentences};

use crate::words::load;

pub(crate) fn sentences() -> Vec<Sentence> {
    sentences![LabOptions::default(); &[];
        names_are_given_and_taken_as_in_podman,
        images_are_listed_by_filter_order_and_template,
        the_history_of_an_image_names_its_last_step,
        an_images_layers_are_shown_as_a_tree,
        what_the_topmost_layer_changed_is_told,
        images_that_nobody_uses_are_pruned,
        an_image_is_inspected_with_podmans_fields,
    ]
}

fn ok(lab: &Lab, line: &str) -> String {
    lab.ok(line).trim().to_owned()
}

/// An image of one file called `name`.
fn small(lab: &Lab, name: &str, flags: &str) {
    lab.host(&format!("mkdir -p /run/{name} && echo {name} > /run/{name}/{name}")).ok();
    lab.host(&format!("tar -C /run/{name} -cf /run/{name}.tar {name}")).ok();
    lab.host(&format!("podwire import -q {flags} /run/{name}.tar localhost/{name}")).ok();
}

fn names(lab: &Lab) -> String {
    ok(lab, "podwire images --sort repository --format '{{.Repository}}:{{.Tag}}' | tr '\\n' ' '")
}

fn names_are_given_and_taken_as_in_podman(lab: &Lab) {
    small(lab, "one", "");
    lab.host("podwire tag one two three:v1 quay.io/team/one").ok();
    assert_eq!(names(lab), "localhost/one:latest localhost/three:v1 localhost/two:latest quay.io/team/one:latest");
    lab.host("podwire untag one three:v1").ok();
    lab.host("podwire untag one localhost/nope").refuses(125, "localhost/nope:latest: tag not known");
    assert_eq!(names(lab), "localhost/one:latest localhost/two:latest quay.io/team/one:latest");
    lab.host("podwire tag nope x").refuses(125, "nope: image not known");
    lab.host("podwire tag one").refuses(125, "requires at least 2 arg(s), only received 1");
    lab.host("podwire tag one UPPER").refuses(125, "must be lowercase");
    // A name is one image's.
    small(lab, "other", "");
    lab.host("podwire image tag other two").ok();
    let id = |name: &str| ok(lab, &format!("podwire image inspect -f '{{{{.Id}}}}' {name}"));
    assert_eq!(id("two"), id("other"));
    // Without names: all go, and the image stays.
    let one = id("one");
    lab.host("podwire image untag one").ok();
    assert_eq!(ok(lab, "podwire images -q --no-trunc -f dangling=true"), format!("sha256:{one}"));
    assert_eq!(
        ok(lab, &format!("podwire image inspect -f '{{{{.NamesHistory}}}}' {one}")).matches("localhost/one").count(),
        1
    );
}

fn images_are_listed_by_filter_order_and_template(lab: &Lab) {
    small(lab, "first", "-c LABEL=kind=a");
    small(lab, "second", "-c LABEL=kind=b");
    let listed =
        |flags: &str| ok(lab, &format!("podwire images --format '{{{{.Repository}}}}' {flags} | tr '\\n' ' '"));
    assert_eq!(listed("--sort created"), "localhost/second localhost/first");
    assert_eq!(listed("--sort repository"), "localhost/first localhost/second");
    assert_eq!(listed("-f label=kind=a"), "localhost/first");
    assert_eq!(listed("-f 'label!=kind=a'"), "localhost/second");
    assert_eq!(listed("-f before=second"), "localhost/first");
    assert_eq!(listed("-f since=first"), "localhost/second");
    assert_eq!(listed("-f until=1h"), "");
    assert_eq!(listed("-f reference='fir*'"), "localhost/first");
    assert_eq!(listed("second"), "localhost/second");
    assert_eq!(listed("-f dangling=true"), "");
    assert_eq!(listed("-f intermediate=true"), "");
    assert_eq!(listed("-f containers=true"), "");
    lab.host("podwire images -f foo=bar").refuses(125, "unsupported image filter \"foo\"");
    lab.host("podwire images --sort nope").refuses(125, "Choose from: created, id, repository, size, tag");
    lab.host("podwire images -f dangling=maybe").refuses(125, "non-boolean value");
    lab.host("podwire images").ok().says("REPOSITORY        TAG         IMAGE ID");
    lab.host("podwire images --digests --history").ok().says("HISTORY");
    lab.host("podwire untag first").ok();
    lab.host("podwire images --format json").ok().says("\"Dangling\": true").says("\"Containers\": 0");
}

fn the_history_of_an_image_names_its_last_step(lab: &Lab) {
    small(lab, "one", "-m hello");
    let id = ok(lab, "podwire image inspect -f '{{slice .Id 0 12}}' one");
    lab.host("podwire history one").ok().says("ID            CREATED").says(&id).says("/bin/sh -c #(nop) ADD file:");
    assert_eq!(ok(lab, "podwire history -q one"), id);
    assert_eq!(ok(lab, "podwire history --format '{{.Comment}} {{.Size}}' one"), "hello 10.2 kB");
    assert_eq!(ok(lab, "podwire history --human=false --format '{{.Size}}' one"), "10240");
    lab.host("podwire history --format json one").ok().says("\"CreatedBy\":\"/bin/sh -c");
    lab.host("podwire history nope").refuses(125, "nope: image not known");
}

fn an_images_layers_are_shown_as_a_tree(lab: &Lab) {
    load(lab);
    let tree = ok(lab, "podwire image tree banner");
    assert!(tree.starts_with("Image ID: ") && tree.contains("\nTags:     [localhost/banner:latest]\n"), "{tree}");
    assert!(tree.lines().last().unwrap().starts_with("└── ID: "), "{tree}");
    assert!(tree.ends_with("Top Layer of: [localhost/banner:latest]"), "{tree}");
    lab.host("podwire image tree --whatrequires banner").ok();
}

fn what_the_topmost_layer_changed_is_told(lab: &Lab) {
    small(lab, "one", "");
    assert_eq!(ok(lab, "podwire image diff one"), "A /one");
    lab.host("podwire image diff --format json one").ok().says("\"added\": [");
    small(lab, "two", "");
    assert_eq!(ok(lab, "podwire image diff two one"), "A /two\nD /one");
    lab.host("podwire image diff --format yaml one").refuses(125, "only supported value for '--format' is 'json'");
}

fn images_that_nobody_uses_are_pruned(lab: &Lab) {
    load(lab);
    small(lab, "one", "");
    small(lab, "two", "");
    lab.host("podwire create --name web banner").ok();
    let two = ok(lab, "podwire image inspect -f '{{.Id}}' two");
    lab.host("podwire untag two").ok();
    lab.host("podwire image prune < /dev/null").code(125).says("WARNING! This command removes all dangling images.");
    assert_eq!(ok(lab, "echo n | podwire image prune | tail -c 6"), "[y/N]");
    assert_eq!(ok(lab, "podwire image prune -f"), two);
    assert_eq!(ok(lab, "podwire image prune -f -a --filter until=1h"), "");
    lab.host("podwire image prune -f -a --filter foo=bar").refuses(125, "unsupported image filter \"foo\"");
    let one = ok(lab, "podwire image inspect -f '{{.Id}}' one");
    assert_eq!(ok(lab, "podwire image prune -f -a"), one);
    assert_eq!(names(lab), "localhost/banner:latest");
}

fn an_image_is_inspected_with_podmans_fields(lab: &Lab) {
    load(lab);
    let shown = lab.host("podwire inspect --type image banner").ok();
    for field in [
        "Id",
        "Digest",
        "RepoTags",
        "RepoDigests",
        "Parent",
        "Comment",
        "Created",
        "Config",
        "Version",
        "Author",
        "Architecture",
        "Os",
        "Size",
        "VirtualSize",
        "GraphDriver",
        "RootFS",
        "Labels",
        "Annotations",
        "ManifestType",
        "User",
        "History",
        "NamesHistory",
    ] {
        assert!(shown.out.contains(&format!("          \"{field}\": ")), "{field} in {}", shown.out);
    }
    lab.host("podwire image inspect nope").refuses(125, "nope: image not known");
}
