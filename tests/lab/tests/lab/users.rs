//! Containers with users of their own: who they are, whose files are whose, and that networks go on working.

use lab::trial::{Need, Sentence};
use lab::{HOST4, Lab, LabOptions, USER, USER_ID, sentences};

use crate::words::{banner_comes, get, load_for_user as load};

pub(crate) fn sentences() -> Vec<Sentence> {
    let mut all = sentences![LabOptions { user: true, ..LabOptions::default() }; &[Need::UidMap];
        with_keep_id_a_user_is_himself_in_the_container,
        keep_id_takes_other_ids_and_a_size,
        with_nomap_and_auto_a_user_is_nobody_in_the_container,
        an_ordinary_users_maps_are_his_own_ids,
        networks_work_for_containers_with_users_of_their_own,
        a_copy_of_an_image_for_other_users_is_made_once_and_goes_with_the_image,
        a_volumes_files_can_be_given_to_the_containers_user,
        without_subordinate_ids_a_user_is_alone_in_the_container,
    ];
    all.extend(sentences![LabOptions::default(); &[];
        auto_gives_each_container_ids_that_no_other_has,
        root_maps_users_without_copies_of_images,
        a_user_namespace_can_be_shared,
        what_is_wrong_with_users_is_said_in_podmans_words,
        a_mapped_volumes_files_keep_their_owners_on_the_host,
    ]);
    all
}

/// What a command prints, with one blank for any number.
fn words(run: lab::Run) -> String {
    run.ok().out.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A user of root's lab who has subordinate ids, as `--userns auto` needs.
fn give_ids(lab: &Lab) {
    crate::words::load(lab);
    let line = "for f in subuid subgid; do echo containers:1000000:3000 >/run/$f; touch /etc/$f; mount --bind /run/$f /etc/$f; done";
    lab.host(line).ok();
}

fn with_keep_id_a_user_is_himself_in_the_container(lab: &Lab) {
    load(lab);
    // A copy of the image stays, for the next container.
    lab.user("podwire run --rm --network none --userns keep-id banner true").ok();
    let before = lab.settled_state();
    let run = |rest: &str| words(lab.user(&format!("podwire run --rm --network none --userns keep-id {rest}")));
    assert_eq!(run("banner id"), format!("uid={USER_ID}({USER}) gid={USER_ID}({USER})"));
    assert_eq!(
        run("banner cat /proc/self/uid_map"),
        format!("0 1 {USER_ID} {USER_ID} 0 1 {0} {0} {1}", USER_ID + 1, 65536 - USER_ID)
    );
    assert_eq!(run(&format!("banner grep {USER} /etc/passwd")), format!("{USER}:*:{USER_ID}:{USER_ID}::/:/bin/sh"));
    // The image's files are root's, and root is somebody else; his own are his.
    assert_eq!(run("banner stat -c %u:%g /bin/busybox /www /tmp"), "0:0 0:0 0:0");
    lab.user("podwire run --rm --network none --userns keep-id banner touch /www/x").code(1);
    lab.user("mkdir v && echo mine >v/old").ok();
    assert_eq!(run("-v ./v:/v banner sh -c 'cat /v/old; touch /v/new; stat -c %u /v/new'"), format!("mine {USER_ID}"));
    assert_eq!(words(lab.user("stat -c %u:%g v/new")), format!("{USER_ID}:{USER_ID}"));
    // His home is his own when a volume brings it, else where the command starts.
    assert_eq!(run("-w /www banner sh -c 'echo $HOME; echo seen >/dev/stdout'"), "/www seen");
    assert_eq!(run(&format!("-v ./v:/home/{USER} banner sh -c 'echo $HOME'")), format!("/home/{USER}"));
    assert_eq!(run("-u root banner id -u"), "0");
    assert_eq!(run("-u web banner id -u"), "33");
    lab.user("podwire run -d --name a --network none --userns keep-id banner sleep 100").ok();
    for _ in 0..2 {
        lab.user("podwire exec a id -un").ok().says(USER);
        lab.user("podwire stop -t 0 a && podwire start a").ok();
    }
    let shown =
        words(lab.user(
            "podwire inspect -f '{{.HostConfig.UsernsMode}} {{.HostConfig.IDMappings.UidMap}} {{.Config.User}}' a",
        ));
    assert_eq!(
        shown,
        format!("private [0:1:{USER_ID} {USER_ID}:0:1 {0}:{0}:{1}] {USER_ID}:{USER_ID}", USER_ID + 1, 65536 - USER_ID)
    );
    lab.user("podwire rm -f -t 0 a && rm -r v").ok();
    let ask = "PODMAN_USERNS=keep-id podwire run --rm --network none banner id -u";
    assert_eq!(words(lab.user(ask)), USER_ID.to_string());
    before.same(lab, "after containers with keep-id");
}

fn keep_id_takes_other_ids_and_a_size(lab: &Lab) {
    load(lab);
    let run = |mode: &str, command: &str| {
        words(lab.user(&format!("podwire run --rm --network none --userns keep-id:{mode} banner {command}")))
    };
    assert_eq!(run("uid=33,gid=7", "id"), "uid=33(web) gid=7");
    assert_eq!(run("uid=5,size=9", "cat /proc/self/uid_map"), "0 1 5 5 0 1 6 6 3");
    // With other ids nobody is added to the accounts.
    lab.user(&format!("podwire run --rm --network none --userns keep-id:uid=5 banner grep {USER} /etc/passwd")).code(1);
}

fn with_nomap_and_auto_a_user_is_nobody_in_the_container(lab: &Lab) {
    load(lab);
    let map = |mode: &str| {
        words(lab.user(&format!("podwire run --rm --network none --userns {mode} banner cat /proc/self/gid_map")))
    };
    assert_eq!(map("nomap"), "0 1 65536");
    assert_eq!(map("auto"), "0 1 1024");
    assert_eq!(map("auto:size=2000"), "0 1 2000");
    // What a user has is nobody's in there.
    let owner = "podwire run --rm --network none --userns nomap -v .:/v banner stat -c %u /v";
    assert_eq!(words(lab.user(owner)), "65534");
    lab.user("podwire create --name keeps --network none --userns keep-id banner").ok();
    lab.user("podwire create --network none --userns auto banner")
        .refuses(125, "creating container storage: could not find enough available IDs");
    lab.user("podwire rm keeps").ok();
}

fn an_ordinary_users_maps_are_his_own_ids(lab: &Lab) {
    load(lab);
    let map = |flags: &str| {
        words(lab.user(&format!("podwire run --rm --network none {flags} banner cat /proc/self/uid_map")))
    };
    assert_eq!(map("--uidmap 0:1:100"), "0 1 100");
    assert_eq!(map(&format!("--uidmap +700:@{USER_ID} -u 700")), "0 1 700 700 0 1 701 701 64836");
    assert_eq!(map("--uidmap 0:0:1 --uidmap 1:@200000:5"), "0 0 1 1 1 5");
    assert_eq!(map(&format!("--subuidname {USER}")), "0 1 65536");
    lab.user("podwire run --rm --network none --uidmap 0:65530:100 banner true")
        .refuses(125, "the mapping 0:65530:100 uses ids that podwire has not: it has 65537.");
    lab.user("podwire run --rm --network none --uidmap 0:@1:1 banner true")
        .refuses(125, "the ids 1 to 1 of the host are not all podwire's to give: check /etc/subuid and /etc/subgid");
}

fn networks_work_for_containers_with_users_of_their_own(lab: &Lab) {
    load(lab);
    // Copies of the image stay, for the next containers.
    for mode in ["keep-id", "auto", "nomap"] {
        lab.user(&format!("podwire run -d --network none --userns {mode} banner")).ok();
        lab.user(&format!("podwire run --rm --network none --userns {mode} banner true")).ok();
        lab.user("podwire rm -fa -t 0").ok();
    }
    let before = lab.settled_state();
    lab.user("podwire network create app").ok();
    for mode in ["keep-id", "auto", "nomap"] {
        // Port 80 is below what everybody may bind, in a network namespace of somebody else's.
        let line = format!("podwire run -d --name web --network app --userns {mode} -u root -p 8080:80 banner");
        lab.user(&line).ok();
        banner_comes(|| lab.outside(&get(&format!("{HOST4}:8080"))));
        let fetch =
            |flags: &str| format!("podwire run --rm --userns {mode} {flags} banner timeout 2 wget -q -O - http://");
        banner_comes(|| lab.user(&format!("{}web/", fetch("--network app"))));
        banner_comes(|| lab.user(&format!("{}{HOST4}:8080/", fetch(""))));
        banner_comes(|| lab.user(&format!("{}127.0.0.1/", fetch("--network container:web"))));
        lab.user("podwire exec web cat /proc/sys/net/ipv4/ping_group_range").ok().says("0\t0");
        lab.user("podwire exec web ls /sys/class/net").ok().says("eth0");
        lab.user("podwire network create more && podwire network connect more web").ok();
        lab.user("podwire exec web ls /sys/class/net").ok().says("eth1");
        lab.user("podwire rm -f -t 0 web && podwire network rm more").ok();
        let down = format!("podwire run --rm --userns {mode} -u root --cap-add NET_ADMIN banner ip link set eth0 down");
        lab.user(&down).ok();
        lab.user(&format!("podwire run --rm --userns {mode} --network host banner ls /sys/class/net"))
            .ok()
            .says("eth0");
    }
    lab.user("podwire network rm app").ok();
    before.same(lab, "after containers with users of their own");
}

fn a_copy_of_an_image_for_other_users_is_made_once_and_goes_with_the_image(lab: &Lab) {
    load(lab);
    let copies = || words(lab.user("podwire unshare sh -c 'ls -d ~/.local/share/podwire/overlay/*/ma* | wc -l'"));
    // What a killed command left is made again.
    lab.user("podwire run --rm --network none --userns keep-id banner true").ok();
    let moved = "cd ~/.local/share/podwire/overlay/*/ && c=$(echo mapped-*) && mv $c making-${c#mapped-} && rm making-*/bin/busybox";
    lab.user(&format!("podwire unshare sh -c '{moved}'")).ok();
    for _ in 0..2 {
        lab.user("podwire run --rm --network none --userns keep-id banner true").ok();
        assert_eq!(copies(), "1");
    }
    lab.user("for i in 1 2 3; do podwire run --rm --network none --userns keep-id:uid=9 banner true & done; wait").ok();
    assert_eq!(copies(), "2");
    lab.user("podwire rmi banner").ok();
    assert_eq!(words(lab.user("podwire unshare sh -c 'ls ~/.local/share/podwire/overlay | wc -l'")), "0");
}

fn a_volumes_files_can_be_given_to_the_containers_user(lab: &Lab) {
    load(lab);
    lab.user("mkdir -p v/d && touch v/d/f && ln -s /etc/passwd v/link").ok();
    lab.user("podwire run --rm --network none -v ./v:/v:U -u web banner touch /v/d/new").ok();
    assert_eq!(words(lab.user("stat -c %u v v/d v/d/f v/link v/d/new")), ["200032"; 5].join(" "));
    let kept = "podwire run --rm --network none --userns keep-id -v ./v:/v:U banner stat -c %u /v/d/f /v/d/new";
    assert_eq!(words(lab.user(kept)), [USER_ID.to_string(), USER_ID.to_string()].join(" "));
    assert_eq!(words(lab.user("stat -c %u v/d/f")), USER_ID.to_string());
    // A new volume belongs to the one who is to use it.
    let named =
        "podwire run --rm --network none --userns keep-id -v data:/data banner sh -c 'touch /data/x; stat -c %u /data'";
    assert_eq!(words(lab.user(named)), USER_ID.to_string());
    lab.user("podwire run --rm --network none --userns keep-id -v ./v:/v:idmap banner true")
        .refuses(126, "the volume option \"idmap\": cannot map the owners of");
}

fn auto_gives_each_container_ids_that_no_other_has(lab: &Lab) {
    give_ids(lab);
    let before = lab.settled_state();
    lab.host("for n in a b; do podwire create --name $n --userns auto banner & done; wait").ok();
    let maps = words(lab.host("podwire inspect -f '{{.HostConfig.IDMappings.UidMap}}' a b"));
    let mut maps: Vec<&str> = maps.split(' ').collect();
    maps.sort_unstable();
    assert_eq!(maps, ["[0:1000000:1024]", "[0:1001024:1024]"]);
    lab.host("podwire create --userns auto banner")
        .refuses(125, "creating container storage: could not find enough available IDs");
    let rest = "podwire run --rm --userns auto:size=900,uidmapping=5:0:1 banner cat /proc/self/uid_map";
    assert_eq!(words(lab.host(rest)), "0 1002048 5 5 0 1 6 1002053 894");
    lab.host("podwire rm a").ok();
    lab.host("podwire run --rm --userns auto banner true").ok();
    lab.host("podwire rm b").ok();
    before.same(lab, "after containers with auto");
}

fn root_maps_users_without_copies_of_images(lab: &Lab) {
    give_ids(lab);
    let before = lab.settled_state();
    let line = "podwire run -d --name web --userns auto -p 8080:80 -v data:/www banner";
    lab.host(line).ok();
    banner_comes(|| lab.outside(&get(&format!("{HOST4}:8080"))));
    assert_eq!(words(lab.host("podwire exec web stat -c %u:%g /bin/busybox /www /www/index.html")), "0:0 0:0 0:0");
    assert_eq!(words(lab.host("stat -c %u /var/lib/podwire/volumes/data/_data/index.html")), "1000000");
    let pid = words(lab.host("podwire inspect -f '{{.State.Pid}}' web"));
    assert_eq!(words(lab.host(&format!("stat -c %u /proc/{pid}"))), "1000000");
    lab.host("podwire exec web touch /changed && podwire stop -t 0 web && podwire start web").ok();
    assert_eq!(words(lab.host("podwire exec web stat -c %u /changed")), "0");
    assert_eq!(lab.host("ls -d /var/lib/podwire/overlay/*/ma*").code, 2);
    // Its network namespace is its own root's, and so are the settings in there.
    lab.host("podwire run --rm --userns auto --privileged banner sh -c 'echo 7 >/proc/sys/net/ipv4/ip_default_ttl'")
        .ok();
    lab.host("podwire rm -f -t 0 web && rm -r /var/lib/podwire/volumes/data").ok();
    before.same(lab, "after containers with users of their own");
}

fn a_user_namespace_can_be_shared(lab: &Lab) {
    give_ids(lab);
    let map = |flags: &str| words(lab.host(&format!("podwire run --rm {flags} banner cat /proc/self/uid_map")));
    lab.host("podwire run -d --name a --userns auto banner").ok();
    assert_eq!(map("--userns container:a"), "0 1000000 1024");
    assert_eq!(map("--userns container:a --network container:a"), "0 1000000 1024");
    let pid = words(lab.host("podwire inspect -f '{{.State.Pid}}' a"));
    assert_eq!(map(&format!("--userns ns:/proc/{pid}/ns/user")), "0 1000000 1024");
    lab.host("podwire create --name b --userns container:a banner").ok();
    lab.host("podwire stop -t 0 a && podwire start b").ok();
    lab.host("podwire ps --format '{{.Names}}'").ok().says("a\n").says("b\n");
    lab.host("podwire run -d --name plain banner").ok();
    assert_eq!(map("--userns container:plain"), "0 0 4294967295");
    assert_eq!(map("--userns keep-id"), "0 0 4294967295");
    lab.host("podwire rm -fa -t 0").ok();
}

fn what_is_wrong_with_users_is_said_in_podmans_words(lab: &Lab) {
    crate::words::load(lab);
    let before = lab.settled_state();
    for (flags, words) in [
        ("--userns foo", "unrecognized namespace mode foo passed"),
        ("--userns nomap", "nomap is only supported in rootless mode"),
        ("--userns private", "must provide at least one UID or GID mapping to configure a user namespace"),
        (
            "--userns container:nope",
            "looking up container to share user namespace with: no container with name or ID \"nope\" found",
        ),
        ("--userns ns:/nope", "cannot find specified user namespace path: stat /nope: no such file or directory"),
        (
            "--userns auto",
            "cannot find mappings for user \"containers\": no subuid ranges found for user \"containers\" in /etc/subuid",
        ),
        ("--subuidname nope", "no subuid ranges found for user \"nope\" in /etc/subuid"),
        (
            "--uidmap 0:0:9 --uidmap 5:50:1",
            "the specified UID and/or GID mapping 5:50:1 conflicts with other mappings: invalid mappings specified",
        ),
        (
            "--userns host --uidmap 0:0:9",
            "--userns and --uidmap/--gidmap/--subuidname/--subgidname are mutually exclusive",
        ),
        ("-v /run:/v:idmap", "the volume option \"idmap\" of /v needs a user namespace: add --userns or --uidmap"),
    ] {
        lab.host(&format!("podwire run --rm {flags} banner true")).refuses(125, words);
    }
    lab.host("podwire run --rm --userns ns:/proc/self/ns/uts banner true").code(126);
    before.same(lab, "after refusals");
}

fn a_mapped_volumes_files_keep_their_owners_on_the_host(lab: &Lab) {
    give_ids(lab);
    lab.host("mkdir /run/v && touch /run/v/old").ok();
    let line =
        "podwire run --rm --userns auto -v /run/v:/v:idmap banner sh -c 'touch /v/new; stat -c %u /v/old /v/new'";
    assert_eq!(words(lab.host(line)), "0 0");
    assert_eq!(words(lab.host("stat -c %u /run/v/new")), "0");
}

fn without_subordinate_ids_a_user_is_alone_in_the_container(lab: &Lab) {
    lab.host(": >/etc/subgid").ok();
    load(lab);
    let run = "podwire run --rm --network none --userns keep-id -v .:/v banner sh -c 'id; touch /v/new; cat /proc/self/uid_map'";
    let said = words(lab.user(run));
    assert!(
        said.starts_with(&format!("uid={USER_ID}({USER}) gid={USER_ID}({USER})"))
            && said.ends_with(&format!(" {USER_ID} 0 1")),
        "{said}"
    );
    assert_eq!(words(lab.user("stat -c %u:%g new")), format!("{USER_ID}:{USER_ID}"));
    lab.user("podwire run --rm --userns nomap banner true").refuses(125, "--userns nomap needs ids beside your own");
    lab.user("podwire run --rm --userns auto banner true")
        .refuses(125, "creating container storage: could not find enough available IDs");
}
