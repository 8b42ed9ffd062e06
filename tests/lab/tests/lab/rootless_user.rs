//! Everything without a network, as an ordinary user: who is root inside, what is missing, what is left behind.

use lab::trial::{Need, Sentence};
use lab::{Lab, LabOptions, Run, USER, USER_ID, sentences};

use crate::words::{eventually, load_for_user as load, peer};

pub(crate) fn sentences() -> Vec<Sentence> {
    let mut all = sentences![with_user(); &[Need::UidMap];
        an_ordinary_user_runs_containers_and_nothing_is_left_of_them,
        root_in_a_container_is_the_user_outside_and_others_are_his_subordinates,
        unshare_shows_files_as_containers_have_them,
        a_directory_removed_and_made_again_is_empty_for_an_ordinary_user_too,
        a_root_where_the_kernel_has_no_overlay_for_users_needs_fuse_overlayfs,
        devices_of_an_image_are_left_out_and_owners_beyond_the_ranges_refused,
        a_session_without_a_runtime_directory_finds_the_same_containers,
        a_directory_below_tmp_that_is_not_the_users_own_is_refused,
        home_may_be_anothers_or_unset,
        ranges_are_found_by_name_and_by_number,
        many_commands_at_once_come_to_one_namespace,
        a_container_outlives_its_holder_and_its_monitor_and_can_be_entered,
        a_session_that_may_not_gain_privileges_is_told_apart,
    ];
    all.extend(sentences![with_user(); &[];
        without_ranges_or_helpers_there_is_one_user_and_that_is_said,
        a_machine_that_forbids_user_namespaces_is_told_apart,
        root_has_nothing_to_unshare,
    ]);
    all.extend(sentences![LabOptions { cgroup2: false, ..with_user() }; &[Need::UidMap];
        a_mixture_of_control_group_versions_is_in_no_ordinary_users_way,
    ]);
    all
}

fn with_user() -> LabOptions {
    LabOptions { user: true, ..LabOptions::default() }
}

/// Our processes, by the names they were started with.
fn processes(lab: &Lab) -> Vec<String> {
    let first = |line: String| line.split(' ').next().unwrap_or_default().to_owned();
    let mut names: Vec<String> = lab.processes().into_iter().map(first).collect();
    names.retain(|name| name.starts_with("podwire-"));
    names.sort_unstable();
    names
}

/// None of our processes is there any more, a moment after the last command.
#[track_caller]
fn nobody_stays(lab: &Lab) {
    let gone = eventually(|| lab.host("pgrep -a podwire-"), |run| run.code == 1);
    assert_eq!(gone.code, 1, "{}", gone.out);
}

/// As Debian boots it with systemd's hybrid hierarchy; crun alone refuses that.
fn a_mixture_of_control_group_versions_is_in_no_ordinary_users_way(lab: &Lab) {
    load(lab);
    lab.user("podwire run -d --network none --name web banner sleep 100").ok();
    lab.user("podwire exec web echo inside").ok().says("inside");
    lab.user("podwire rm -f web").ok();
    nobody_stays(lab);
}

fn text(run: Run) -> String {
    run.ok().out.trim_end().to_owned()
}

fn an_ordinary_user_runs_containers_and_nothing_is_left_of_them(lab: &Lab) {
    load(lab);
    nobody_stays(lab);
    let before = lab.settled_state();
    lab.user("podwire run --rm --network none banner id").ok().says("uid=0(root) gid=0(root)");
    lab.user("podwire run -d --name web --network none banner sh -c 'echo hello; sleep 100'").ok();
    assert_eq!(processes(lab), ["podwire-holder", "podwire-monitor"]);
    lab.user("podwire ps --format '{{.Names}} {{.Status}}'").ok().says("web Up");
    lab.user("podwire exec -u web web id").ok().says("uid=33(web) gid=33(web)");
    lab.user("podwire exec web cat /proc/net/dev").ok().says("lo:");
    lab.user("podwire run --rm --network container:web banner ls /sys/class/net").ok().says("lo");
    assert_eq!(text(eventually(|| lab.user("podwire logs web"), |run| !run.out.is_empty())), "hello");
    lab.user("podwire stop -t 0 web").ok();
    lab.user("podwire start web").ok();
    lab.user("podwire rm -f -t 0 web").ok();
    // With the host's stack its /sys is the host's, and cannot be written to.
    lab.user("podwire run --rm --network host banner ls /sys/class/net").ok().says("eth0");
    lab.user("podwire run --rm --network host banner touch /sys/x").code(1);
    lab.user(&peer(lab, "pty podwire run --rm -it --network none banner sh -c 'tty; ls -l /dev/pts/0; exit 3'"))
        .code(3)
        .says("/dev/pts/0");
    nobody_stays(lab);
    before.same(lab, "after an ordinary user's containers");
    lab.user("podwire info --format '{{.Host.Security.Rootless}} {{len .Host.IDMappings.UIDMap}}'").ok().says("true 2");
}

fn root_in_a_container_is_the_user_outside_and_others_are_his_subordinates(lab: &Lab) {
    load(lab);
    let line =
        "mkdir v && podwire run --rm --network none -v ./v:/v banner sh -c 'touch /v/root /v/web; chown 33:33 /v/web'";
    lab.user(line).ok();
    let owners = text(lab.user("stat -c '%n %u:%g' v/*"));
    assert_eq!(owners, format!("v/root {USER_ID}:{USER_ID}\nv/web 200032:200032"));
    lab.user("podwire run --rm --network none -v ./v:/v banner sh -c 'rm /v/web && cat /proc/self/uid_map'")
        .ok()
        .says("200000");
    // Nobody else's files become his.
    lab.user("podwire run --rm --network none -v /etc/shadow:/s banner cat /s").code(1);
}

fn unshare_shows_files_as_containers_have_them(lab: &Lab) {
    load(lab);
    assert_eq!(text(lab.user("podwire unshare id -u")), "0");
    assert_eq!(
        text(lab.user("podwire unshare sh -c 'pwd; stat -c %u . /etc/passwd'")),
        format!("/home/{USER}\n0\n65534")
    );
    lab.user("podwire unshare sh -c 'exit 7'").code(7);
    lab.user("podwire unshare /nowhere").refuses(127, "cannot run \"/nowhere\": No such file or directory");
    lab.user("podwire unshare /etc").refuses(126, "cannot run \"/etc\": Permission denied");
    lab.user("podwire unshare --foo").refuses(125, "unknown flag: --foo");
    // Without a command it is the user's shell.
    assert_eq!(text(lab.user("echo 'id -u; exit 5' | SHELL=/bin/sh podwire unshare; echo $?")), "0\n5");
    let environment = "podwire unshare sh -c 'echo $CONTAINERS_GRAPHROOT $CONTAINERS_RUNROOT'";
    assert_eq!(text(lab.user(environment)), format!("/home/{USER}/.local/share/podwire /run/user/{USER_ID}/podwire"));
    // A podwire in there has the same containers, and leaves the namespaces to those who are in them.
    let inside = "podwire unshare sh -c 'podwire run -d --name in --network none banner sleep 100 && podwire ps -q'";
    assert_eq!(lab.user(inside).ok().out.lines().count(), 2);
    lab.user("podwire exec in readlink /proc/self/ns/user")
        .ok()
        .says(&text(lab.user("podwire unshare readlink /proc/self/ns/user")));
    lab.user("podwire rm -f -t 0 in").ok();
    nobody_stays(lab);
}

fn a_directory_removed_and_made_again_is_empty_for_an_ordinary_user_too(lab: &Lab) {
    load(lab);
    let again = "podwire run --name a --network none banner sh -c 'rm -r /www && mkdir /www && rm -f /etc/group && echo /www/* /etc/g*'";
    lab.user(again).ok().says("/www/* /etc/g*");
    lab.user("podwire start -a a").ok().says("/www/* /etc/g*");
    lab.user("podwire run --rm --network none banner cat /www/index.html").ok();
    // An image may say so too.
    let tar = "mkdir -p i/bin i/www && cp /bin/busybox i/bin/sh && touch i/www/.wh..wh..opq i/www/new && tar -C i -cf i.tar . && \
               podwire import -q i.tar opaque && podwire run --rm --network none opaque sh -c 'echo /www/*'";
    lab.user(tar).ok().says("/www/new");
    let marked = "podwire unshare sh -c 'getfattr --absolute-names -m user.overlay -R ~/.local/share/podwire/overlay 2>/dev/null || \
                  python3 -c \"import os,sys; print([os.listxattr(d) for d, _, _ in os.walk(sys.argv[1])])\" ~/.local/share/podwire/overlay'";
    lab.user(marked).ok().says("user.overlay.opaque");
}

fn a_root_where_the_kernel_has_no_overlay_for_users_needs_fuse_overlayfs(lab: &Lab) {
    // An overlay cannot be the upper directory of another one.
    let over = format!(
        "mkdir -p /run/o/up /run/o/work /mnt && chown {USER} /run/o/up && \
         mount -t overlay -o lowerdir=/home/{USER},upperdir=/run/o/up,workdir=/run/o/work overlay /home/{USER}"
    );
    lab.host(&over).ok();
    load(lab);
    // Where it is installed, it is used; then it is taken away.
    if lab.host("command -v fuse-overlayfs").code == 0 {
        let line = "podwire run --rm --network none banner sh -c 'rm /www/index.html && echo x >/www/new && ls /www'";
        assert_eq!(text(lab.user(line)), "new");
        lab.user("podwire run --rm --network none banner ls /www").ok().says("index.html");
        nobody_stays(lab);
        assert_eq!(lab.host("pgrep fuse-overlayfs").code, 1);
        lab.host("mount --bind /dev/null $(command -v fuse-overlayfs)").ok();
    }
    lab.user("podwire run --rm --network none banner true")
        .refuses(126, ". The way around that: fuse-overlayfs is not installed");
}

fn devices_of_an_image_are_left_out_and_owners_beyond_the_ranges_refused(lab: &Lab) {
    let make = "mkdir -p /run/i/bin /run/i/dev && cp /bin/busybox /run/i/bin/sh && mknod /run/i/dev/sda b 8 0 && \
                tar -C /run/i -cf /run/i.tar . && touch /run/i/far && chown 70000:7 /run/i/far && tar -C /run/i -cf /run/far.tar .";
    lab.host(make).ok();
    lab.user("podwire import -q /run/i.tar devices").ok();
    lab.user("podwire run --rm --network none devices sh -c 'echo /dev/s*'").ok();
    lab.user("podwire import -q /run/far.tar far").refuses(
        125,
        "potentially insufficient UIDs or GIDs available in user namespace (requested 70000:7 for /far): check /etc/subuid and /etc/subgid",
    );
}

/// All labs have the machine's /tmp, and all their users the same number.
fn have_a_tmp_of_its_own(lab: &Lab) {
    lab.host("mount -t tmpfs -o mode=1777 tmpfs /tmp").ok();
}

fn a_session_without_a_runtime_directory_finds_the_same_containers(lab: &Lab) {
    load(lab);
    have_a_tmp_of_its_own(lab);
    // The directory is there, as after `su` while the user has a session too.
    lab.user("unset XDG_RUNTIME_DIR; podwire run -d --name a --network none banner sleep 100").ok();
    lab.user("podwire ps").ok().says(" a\n");
    lab.user("podwire rm -f -t 0 a").ok();
    nobody_stays(lab);
    // It is not, as in a first session over ssh where no logind is.
    lab.host(&format!("rm -r /run/user/{USER_ID}")).ok();
    let run = lab.user("XDG_RUNTIME_DIR=/run/user/0 podwire run -d --name b --network none banner sleep 100").ok();
    assert_eq!(run.err.lines().count(), 1, "{}", run.err);
    assert!(run.err.contains(&format!("goes to /tmp/podwire-run-{USER_ID}.")), "{}", run.err);
    // While it runs, every session finds it.
    lab.host(&format!("install -d -m 700 -o {USER} -g {USER} /run/user/{USER_ID}")).ok();
    let run = lab.user("podwire ps").ok().says(" b\n");
    assert_eq!(run.err, "");
    lab.user("podwire rm -f -t 0 b").ok();
    nobody_stays(lab);
    lab.host(&format!("rm -r /tmp/podwire-run-{USER_ID}")).ok();
}

fn a_directory_below_tmp_that_is_not_the_users_own_is_refused(lab: &Lab) {
    have_a_tmp_of_its_own(lab);
    let directory = format!("/tmp/podwire-run-{USER_ID}");
    lab.host(&format!("rm -r /run/user/{USER_ID}; mkdir {directory}")).ok();
    let refused = lab.user("unset XDG_RUNTIME_DIR; podwire ps");
    lab.host(&format!("rmdir {directory}")).ok();
    refused.refuses(125, &format!("{directory} is not a directory of ours alone"));
}

fn home_may_be_anothers_or_unset(lab: &Lab) {
    let root = format!("/home/{USER}/.local/share/podwire");
    for home in ["unset HOME", "HOME=/root", "HOME=/nowhere"] {
        let line = format!("{home}; podwire info -f '{{{{.Store.GraphRoot}}}}'");
        assert_eq!(text(lab.user(&line)), root, "{home}");
    }
    assert_eq!(
        text(lab.user("XDG_DATA_HOME=~/d podwire info -f '{{.Store.GraphRoot}}'")),
        format!("/home/{USER}/d/podwire")
    );
}

fn ranges_are_found_by_name_and_by_number(lab: &Lab) {
    let map = |lines: &str| {
        lab.host(&format!("printf '{lines}' >/etc/subuid")).ok();
        nobody_stays(lab);
        let run = lab.user("podwire unshare cat /proc/self/uid_map").ok();
        assert_eq!(run.err, "");
        run.out.split_whitespace().map(str::to_owned).collect::<Vec<_>>().join(" ")
    };
    let first = format!("0 {USER_ID} 1");
    assert_eq!(map(&format!("other:1:9\\n{USER_ID}:300000:65536\\n")), format!("{first} 1 300000 65536"));
    assert_eq!(map(&format!("{USER}:300000:10\\n{USER}:500000:20\\n")), format!("{first} 1 300000 10 11 500000 20"));
}

fn many_commands_at_once_come_to_one_namespace(lab: &Lab) {
    load(lab);
    nobody_stays(lab);
    lab.user("for i in 1 2 3 4 5 6 7 8; do podwire run -d --network none banner sleep 100 >/dev/null & done; wait")
        .ok();
    assert_eq!(lab.user("podwire ps -q").ok().out.lines().count(), 8);
    let namespaces = "for p in $(pgrep podwire-; pgrep sleep); do readlink /proc/$p/ns/user; done | sort -u | wc -l";
    assert_eq!(text(lab.host(namespaces)), "1");
    assert_eq!(processes(lab).iter().filter(|name| *name == "podwire-holder").count(), 1);
    lab.user("podwire rm -f -t 0 -a").ok();
    nobody_stays(lab);
}

fn a_container_outlives_its_holder_and_its_monitor_and_can_be_entered(lab: &Lab) {
    load(lab);
    for killed in ["podwire-holder", "podwire-monitor", "podwire-"] {
        lab.user("podwire run -d --name web --network none banner sleep 100").ok();
        lab.host(&format!("kill -9 $(pgrep {killed}); while pgrep {killed}; do :; done")).ok();
        lab.user("podwire ps --format '{{.Names}} {{.Status}}'").ok().says("web Up");
        lab.user("podwire exec web id -u").ok().says("0");
        assert_eq!(processes(lab), ["podwire-holder", "podwire-monitor"], "after {killed} was killed");
        lab.user("podwire rm -f -t 0 web").ok();
        nobody_stays(lab);
    }
}

fn without_ranges_or_helpers_there_is_one_user_and_that_is_said(lab: &Lab) {
    let one = |said: &str| {
        nobody_stays(lab);
        let run = lab.user("podwire run --rm --network none banner cat /proc/self/gid_map /proc/self/setgroups");
        let run = run.ok().says("deny");
        assert!(run.err.contains(said) && run.err.lines().count() == 1, "‘{said}’ in one line expected: {}", run.err);
    };
    lab.host("for f in /etc/subuid /etc/subgid; do cp $f /run/${f##*/}; done; : >/etc/subgid").ok();
    load(lab);
    one(&format!("{USER} has no range in /etc/subuid or none in /etc/subgid: containers have one user, root, only."));
    // Files of others in an image become root's.
    lab.host(
        "mkdir -p /run/i/bin && cp /bin/busybox /run/i/bin/sh && chown 33 /run/i/bin && tar -C /run/i -cf /run/i.tar .",
    )
    .ok();
    lab.user("podwire import -q /run/i.tar others && podwire run --rm --network none others sh -c 'stat -c %u /bin'")
        .ok()
        .says("0");
    lab.host(
        "cat /run/subgid >/etc/subgid; for h in newuidmap newgidmap; do mount --bind /dev/null /usr/bin/$h || :; done",
    )
    .ok();
    one("newuidmap is not installed (on Debian: apt-get install uidmap)");
}

fn a_machine_that_forbids_user_namespaces_is_told_apart(lab: &Lab) {
    // The limit of a user namespace of our own: the machine's is everybody's.
    let line = format!(
        "unshare -U sleep 20 & p=$!; until [ $(readlink /proc/$p/ns/user) != $(readlink /proc/self/ns/user) ]; do :; done; \
         echo 0 0 65536 >/proc/$p/uid_map; echo 0 0 65536 >/proc/$p/gid_map; \
         nsenter -t $p -U -S 0 -G 0 sh -c 'echo 0 >/proc/sys/user/max_user_namespaces; \
         exec setpriv --reuid={USER} --regid={USER} --init-groups --reset-env /run/lab/bin/podwire ps'"
    );
    lab.host(&line).refuses(
        125,
        "ordinary users may not make user namespaces on this machine, which containers need: as root, \
         `sysctl -w user.max_user_namespaces=15000` allows it",
    );
}

fn a_session_that_may_not_gain_privileges_is_told_apart(lab: &Lab) {
    lab.user("setpriv --no-new-privs podwire ps").refuses(125, "This session may not gain privileges (no_new_privs)");
}

fn root_has_nothing_to_unshare(lab: &Lab) {
    lab.host("podwire unshare id").refuses(125, "please use unshare with rootless");
}
