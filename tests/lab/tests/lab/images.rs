//! Where images come from.

use lab::registry::IMAGE as REMOTE;
use lab::trial::{Need, Sentence};
use lab::{HOST4, Lab, LabOptions, image, sentences};

use crate::words::{archive, banner_comes, get, load};

pub(crate) fn sentences() -> Vec<Sentence> {
    let mut all = sentences![LabOptions::default(); &[Need::Registry];
        an_image_pulled_from_a_real_registry_serves_its_page_outside,
        a_pulled_image_is_run_without_asking_the_registry_again,
        pulling_by_a_digest_gives_that_image,
        a_pull_onto_a_full_disk_is_one_clear_line_and_leaves_nothing,
        a_pull_cut_short_is_one_clear_line_and_leaves_nothing,
    ];
    all.extend(sentences![LabOptions::default(); &[];
        a_loaded_image_serves_its_page_outside,
        an_imported_file_tree_serves_its_page_outside,
        a_load_onto_a_full_disk_is_one_clear_line_and_leaves_nothing,
        an_image_in_use_is_not_removed_without_force,
        removing_the_last_image_leaves_no_layer,
    ]);
    all
}

fn registry(lab: &Lab) -> lab::Background {
    lab.registry(&archive())
}

fn an_image_pulled_from_a_real_registry_serves_its_page_outside(lab: &Lab) {
    let _registry = registry(lab);
    lab.host(&format!("podwire run -dt --name webserver -p 8080:80 {REMOTE}")).ok();
    banner_comes(|| lab.outside(&get(&format!("{HOST4}:8080"))));
    lab.host("podwire images --format '{{.Repository}}:{{.Tag}}'").ok().says(&format!("{REMOTE}:latest"));
}

fn a_pulled_image_is_run_without_asking_the_registry_again(lab: &Lab) {
    let registry = registry(lab);
    let id = lab.ok(&format!("podwire pull -q {REMOTE}"));
    assert_eq!(id.len(), 64, "pull -q prints the image's id: {id}");
    drop(registry);
    lab.host(&format!("podwire run --rm {REMOTE} echo here")).ok().says("here");
    lab.host(&format!("podwire run --rm --pull always {REMOTE} true")).refuses(125, "127.0.0.1:5000");
}

fn pulling_by_a_digest_gives_that_image(lab: &Lab) {
    let _registry = registry(lab);
    let digest = lab.ok(&format!("skopeo inspect --tls-verify=false -f '{{{{.Digest}}}}' docker://{REMOTE}"));
    lab.host(&format!("podwire pull -q {REMOTE}@{digest}")).ok();
    lab.host(&format!("podwire run --rm {REMOTE}@{digest} echo here")).ok().says("here");
    let other = "sha256:0000000000000000000000000000000000000000000000000000000000000000";
    lab.host(&format!("podwire pull -q {REMOTE}@{other}")).refuses(125, "manifest");
}

fn a_pull_onto_a_full_disk_is_one_clear_line_and_leaves_nothing(lab: &Lab) {
    let _registry = registry(lab);
    lab.host("podwire ps").ok();
    let before = lab.settled_state();
    fill(lab, 600);
    lab.host(&format!("podwire pull -q {REMOTE}")).refuses(125, "No space left on device");
    empty(lab);
    lab.host("podwire ps").ok();
    before.same(lab, "after a pull that found the disk full");
    lab.host(&format!("podwire pull -q {REMOTE}")).ok();
}

fn a_pull_cut_short_is_one_clear_line_and_leaves_nothing(lab: &Lab) {
    let _registry = registry(lab);
    lab.host("podwire ps").ok();
    let before = lab.settled_state();
    lab.host(&format!("find {}/registry -name data -size +100k -exec truncate -s 50000 {{}} +", lab.dir().display()))
        .ok();
    let run = lab.host(&format!("podwire pull -q {REMOTE}"));
    run.refuses(125, "127.0.0.1:5000");
    before.same(lab, "after a pull that was cut short");
}

fn a_loaded_image_serves_its_page_outside(lab: &Lab) {
    let run = lab.host(&format!("podwire load -i {}", archive().display())).ok();
    run.says("Loaded image: localhost/banner:latest");
    lab.host("podwire run -dt --name webserver -p 8080:80 banner").ok();
    banner_comes(|| lab.outside(&get(&format!("{HOST4}:8080"))));
}

fn an_imported_file_tree_serves_its_page_outside(lab: &Lab) {
    let tarball = lab.dir().join("rootfs.tar");
    std::fs::write(&tarball, image::rootfs(&image::banner()).expect("busybox")).expect("the lab's directory");
    let change = "CMD [\"httpd\",\"-f\",\"-p\",\"80\",\"-h\",\"/www\"]";
    lab.host(&format!("podwire import -q -c '{change}' {} localhost/imported", tarball.display())).ok();
    lab.host("podwire run -d --name webserver -p 8080:80 localhost/imported").ok();
    banner_comes(|| lab.outside(&get(&format!("{HOST4}:8080"))));
}

fn a_load_onto_a_full_disk_is_one_clear_line_and_leaves_nothing(lab: &Lab) {
    lab.host("podwire ps").ok();
    let before = lab.settled_state();
    fill(lab, 600);
    lab.host(&format!("podwire load -q -i {}", archive().display())).refuses(125, "No space left on device");
    empty(lab);
    lab.host("podwire ps").ok();
    before.same(lab, "after a load that found the disk full");
    load(lab);
}

/// A small file system for podwire's files, with so many KiB left.
fn fill(lab: &Lab, free: u32) {
    lab.host("mount -o remount,size=20m /var/lib").ok();
    lab.host(&format!(
        "left=$(df -k --output=avail /var/lib | tail -1); dd if=/dev/zero of=/var/lib/filler bs=1k count=$((left - {free})) 2>/dev/null"
    ))
    .ok();
}

fn empty(lab: &Lab) {
    lab.host("rm /var/lib/filler; mount -o remount,size=8g /var/lib").ok();
}

fn an_image_in_use_is_not_removed_without_force(lab: &Lab) {
    load(lab);
    lab.host("podwire run -d --name web banner").ok();
    lab.host("podwire rmi banner").refuses(2, "image is in use by a container");
    lab.host("podwire rmi -f banner").ok();
    assert_eq!(lab.ok("podwire ps -aq"), "");
}

fn removing_the_last_image_leaves_no_layer(lab: &Lab) {
    lab.host("podwire images").ok();
    let before = lab.settled_state();
    load(lab);
    lab.host("podwire rmi banner").ok();
    before.same(lab, "after load and rmi");
}
