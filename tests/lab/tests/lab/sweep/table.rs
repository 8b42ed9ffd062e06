//! The victims: one row per command, with all of its processes that are struck.

use std::collections::BTreeMap;
use std::path::Path;

use lab::Lab;
use lab::image::{banner, docker_archive};
use lab::trial::Need;

use super::{Beside, Victim, Who, Whom};

const COMMAND: &[Whom] = &[Whom::Role(0)];
const NETD: Whom = Whom::Running("podwire-netd");
/// The youngest monitor is the victim's.
const MONITOR: Whom = Whom::Running("podwire-monitor");

/// After this, records and kernel agree on the container's addresses, nothing is to be done for it, its ports answer.
macro_rules! agree {
    ($first:literal) => {
        concat!(
            "podwire ps --format '{{.Names}}' | grep -qx victim || exit 0\n",
            $first,
            r#"
recorded=$(podwire inspect -f '{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}' victim | tr ' ' '\n' | sort)
there=$(podwire exec victim ip -4 addr | sed -n 's/.*inet \([0-9.]*\).*/\1/p' | grep -v '^127' | sort)
[ "$(echo $recorded)" = "$(echo $there)" ] || { echo "recorded: $recorded; there: $there"; exit 1; }
plan=$(podwire network reload --dry-run victim) || exit 1
[ -z "$plan" ] || { echo "to be done: $plan"; exit 1; }
for port in $(podwire port victim | grep tcp | sed 's/.*://' | sort -u); do
    curl -sS -o /dev/null -m 2 --retry 30 --retry-connrefused --retry-delay 0 http://192.168.99.109:$port/ || exit 1
done"#
        )
    };
}

const AGREE: &str = agree!("");
/// A user's own network is not listed, and not reloaded: the port is there, or it is not.
const ANSWERS: &str = "podwire ps --format '{{.Names}}' | grep -qx victim || exit 0
curl -sS -o /dev/null -m 2 --retry 30 --retry-connrefused --retry-delay 0 http://192.168.99.109:8080/";
const RUNS: &str = "[ \"$(podwire ps --format '{{.Names}}' | grep -cx victim)\" = 1 ]";

/// What most rows share.
const ROW: Victim = Victim {
    name: "",
    who: Who::Root,
    beside: Beside::Asked,
    needs: &[],
    hit: COMMAND,
    prepare: |_| None,
    arrange: "true",
    command: "",
    done: "true",
    whole: AGREE,
    sign: "victim",
    clear: "podwire rm -f -t 0 victim; podwire network rm -f victim",
};
const USERS: Victim = Victim { who: Who::User, needs: &[Need::UidMap], whole: ANSWERS, ..ROW };
const IN_A_POD: Victim = Victim { whole: "true", clear: "podwire pod rm -f -t 0 victim", ..ROW };
const FOR_AN_IMAGE: Victim =
    Victim { whole: "podwire run --rm banner true", clear: "podwire rm -f -t 0 victim; podwire rmi -f victim", ..ROW };

const RUN: &str = "podwire run -d --name victim -p 8080:80 banner";
const RUN_NAMED: &str =
    "podwire network create victim && podwire run -d --name victim --network victim -p 8080:80 banner";

pub(super) const VICTIMS: &[Victim] = &[
    Victim { name: "run", hit: &[Whom::Role(0), Whom::Role(1), NETD], command: RUN, done: RUNS, ..ROW },
    Victim {
        name: "the first run",
        beside: Beside::Nobody,
        hit: &[Whom::Role(0), Whom::Role(1)],
        arrange: "podwire network create victim",
        command: "podwire run -d --name victim --network victim -p 8080:80 banner",
        done: RUNS,
        ..ROW
    },
    Victim {
        name: "run with users of its own",
        hit: &[Whom::Role(0), Whom::Role(1)],
        command: "podwire run -d --name victim --uidmap 0:100000:2000 -p 8080:80 banner",
        done: RUNS,
        ..ROW
    },
    Victim {
        name: "rm",
        hit: &[Whom::Role(0), NETD, MONITOR],
        arrange: RUN_NAMED,
        command: "podwire rm -f -t 0 victim",
        done: "! podwire container exists victim",
        ..ROW
    },
    Victim {
        name: "stop",
        hit: &[Whom::Role(0), MONITOR],
        arrange: RUN,
        command: "podwire stop -t 0 victim",
        done: "podwire ps -a --format '{{.Names}} {{.State}}' | grep -qx 'victim exited'",
        ..ROW
    },
    Victim {
        name: "start",
        hit: &[Whom::Role(0), Whom::Role(1)],
        arrange: "podwire create --name victim -p 8080:80 banner",
        command: "podwire start victim",
        done: RUNS,
        ..ROW
    },
    Victim {
        name: "restart",
        hit: &[Whom::Role(0), Whom::Role(1)],
        arrange: RUN,
        command: "podwire restart -t 0 victim",
        done: RUNS,
        ..ROW
    },
    Victim {
        name: "exec",
        arrange: RUN,
        command: "podwire exec victim true",
        whole: "podwire exec victim true",
        ..ROW
    },
    Victim {
        name: "create",
        command: "podwire create --name victim -v victim:/data -p 8080:80 banner",
        done: "podwire container exists victim",
        clear: "podwire rm -f -t 0 victim; podwire volume rm -f victim",
        ..ROW
    },
    Victim {
        name: "network create",
        command: "podwire network create --ipv6 victim",
        done: "podwire network exists victim && podwire run --rm --network victim banner true",
        ..ROW
    },
    Victim {
        name: "network connect",
        hit: &[Whom::Role(0), NETD],
        arrange: "podwire network create victim && podwire run -d --name victim -p 8080:80 banner",
        command: "podwire network connect --alias db victim victim",
        done: "[ $(podwire inspect -f '{{len .NetworkSettings.Networks}}' victim) = 2 ]",
        ..ROW
    },
    Victim {
        name: "network disconnect",
        hit: &[Whom::Role(0), NETD],
        arrange: "podwire network create victim && podwire run -d --name victim --network podman,victim -p 8080:80 banner",
        // Its ports go over to the other network.
        command: "podwire network disconnect podman victim",
        done: "[ $(podwire inspect -f '{{len .NetworkSettings.Networks}}' victim) = 1 ]",
        ..ROW
    },
    Victim {
        name: "network reload",
        hit: &[Whom::Role(0), NETD],
        arrange: "podwire network create --interface-name br-victim victim && \
                  podwire run -d --name victim --network victim -p 8080:80 banner && \
                  ip addr flush dev br-victim && ip link set br-victim mtu 1400",
        command: "podwire network reload victim",
        whole: agree!("podwire network reload victim || exit 1"),
        ..ROW
    },
    Victim {
        name: "network rm of a network with a container",
        arrange: RUN_NAMED,
        command: "podwire network rm -f -t 0 victim",
        done: "! podwire network exists victim",
        ..ROW
    },
    Victim {
        name: "network update",
        arrange: RUN_NAMED,
        command: "podwire network update --dns-add 192.0.2.53 victim",
        done: "podwire network inspect victim | grep -q 192.0.2.53",
        ..ROW
    },
    Victim {
        name: "update that publishes",
        arrange: RUN,
        command: "podwire update --publish-add 8081:80 --publish-add 8082:80/udp victim",
        done: "[ $(podwire port victim | wc -l) = 3 ]",
        ..ROW
    },
    Victim {
        name: "update that publishes no more",
        arrange: "podwire run -d --name victim -p 8080:80 -p 8081:80 banner",
        command: "podwire update --publish-rm 8081 victim",
        done: "[ $(podwire port victim | wc -l) = 1 ]",
        ..ROW
    },
    Victim {
        name: "run on a LAN",
        arrange: "podwire network create -d macvlan -o host_access=true --subnet 192.168.99.0/24 --ip-range 192.168.99.64/28 victim",
        command: "podwire run -d --name victim --network victim banner",
        done: ON_THE_LAN,
        ..ROW
    },
    Victim {
        name: "network connect to a LAN",
        arrange: "podwire network create -d macvlan -o host_access=true --subnet 192.168.99.0/24 --ip-range 192.168.99.64/28 victim && \
                  podwire run -d --name victim banner",
        command: "podwire network connect victim victim",
        done: ON_THE_LAN,
        ..ROW
    },
    Victim {
        name: "run in a pod",
        // The command, the infra container's monitor, its first process, the container's monitor.
        hit: &[Whom::Role(0), Whom::Role(1), Whom::Role(2), Whom::Role(3)],
        arrange: "podwire pod create --infra-name victim-infra -p 8080:80 victim",
        command: "podwire run -d --pod victim --name victim-web banner",
        done: "[ $(podwire ps --format '{{.Names}}' | grep -c victim) = 2 ]",
        ..IN_A_POD
    },
    Victim {
        name: "pod create",
        command: "podwire pod create --infra-name victim-infra -p 8080:80 victim",
        done: "podwire pod start victim && podwire pod ps --format '{{.Status}}' | grep -qx Running",
        ..IN_A_POD
    },
    Victim {
        name: "pod rm",
        hit: &[Whom::Role(0), MONITOR],
        arrange: "podwire pod create --infra-name victim-infra -p 8080:80 victim && podwire run -d --pod victim --name victim-web banner",
        command: "podwire pod rm -f -t 0 victim",
        done: "! podwire pod exists victim",
        ..IN_A_POD
    },
    Victim {
        name: "kube play",
        hit: &[Whom::Role(0), Whom::Role(1), Whom::Role(3)],
        prepare: |lab| {
            kube_file(lab);
            None
        },
        command: "podwire kube play /run/lab/victim.yaml",
        done: "podwire ps --format '{{.Names}}' | grep -qx victim-web",
        sign: "victim|podman-default-kube-network",
        clear: "podwire kube down /run/lab/victim.yaml && podwire volume rm -f victim-data",
        ..IN_A_POD
    },
    Victim {
        name: "kube down",
        prepare: |lab| {
            kube_file(lab);
            None
        },
        arrange: "podwire kube play /run/lab/victim.yaml",
        command: "podwire kube down --force /run/lab/victim.yaml",
        done: "! podwire pod exists victim",
        sign: "victim|podman-default-kube-network",
        clear: "podwire kube down --force /run/lab/victim.yaml",
        ..IN_A_POD
    },
    Victim {
        name: "volume create",
        command: "podwire volume create victim",
        done: "podwire run --rm -v victim:/data banner touch /data/x",
        whole: "true",
        clear: "podwire volume rm -f victim",
        ..ROW
    },
    Victim {
        name: "volume rm",
        arrange: "podwire volume create victim && podwire run --rm -v victim:/data banner touch /data/x",
        command: "podwire volume rm victim",
        done: "! podwire volume exists victim",
        // Whole, or not there.
        whole: "! podwire volume exists victim || podwire run --rm -v victim:/data banner true",
        clear: "podwire volume rm -f victim",
        ..ROW
    },
    Victim {
        name: "load",
        prepare: |lab| {
            victim_archive(lab);
            None
        },
        command: "podwire load -q -i /run/lab/victim.tar",
        done: "podwire run --rm victim cat /www/victim",
        whole: "! podwire image exists victim || podwire run --rm victim cat /www/victim",
        ..FOR_AN_IMAGE
    },
    Victim {
        name: "pull",
        needs: &[Need::Registry],
        prepare: |lab| {
            victim_archive(lab);
            Some(lab.registry(Path::new("/run/lab/victim.tar")))
        },
        command: "podwire pull -q --tls-verify=false 127.0.0.1:5000/libpod/banner",
        done: "podwire run --rm 127.0.0.1:5000/libpod/banner cat /www/victim",
        whole: "! podwire image exists 127.0.0.1:5000/libpod/banner || podwire run --rm 127.0.0.1:5000/libpod/banner cat /www/victim",
        sign: "127.0.0.1:5000",
        clear: "podwire rmi -f 127.0.0.1:5000/libpod/banner",
        ..ROW
    },
    Victim {
        name: "rmi",
        prepare: |lab| {
            victim_archive(lab);
            None
        },
        arrange: "podwire load -q -i /run/lab/victim.tar",
        command: "podwire rmi victim",
        done: "! podwire image exists victim",
        whole: "! podwire image exists victim || podwire run --rm victim cat /www/victim",
        ..FOR_AN_IMAGE
    },
    Victim {
        name: "import",
        prepare: |lab| {
            let tree = lab::image::rootfs(&banner()).expect("the tree is made of busybox");
            std::fs::write(lab.path("/run/lab/tree.tar"), tree).expect("a file of the lab");
            None
        },
        command: "podwire import -q /run/lab/tree.tar victim",
        done: "podwire run --rm victim true",
        whole: "! podwire image exists victim || podwire run --rm victim true",
        ..FOR_AN_IMAGE
    },
    Victim {
        name: "an ordinary user's run",
        hit: &[Whom::Role(0), Whom::Role(1), NETD],
        command: RUN,
        done: RUNS,
        ..USERS
    },
    Victim {
        name: "an ordinary user's run beside a relay that is struck",
        beside: Beside::There,
        hit: &[RELAY, LOOKOUT, Whom::Running("podwire-holder")],
        command: RUN,
        done: RUNS,
        ..USERS
    },
    Victim {
        name: "an ordinary user's first run",
        beside: Beside::Nobody,
        // The command, and whatever it starts: holder, relay, netd, monitor.
        hit: &[Whom::Role(0), Whom::Role(1), Whom::Role(2), Whom::Role(3), Whom::Role(4)],
        command: RUN,
        done: RUNS,
        ..USERS
    },
    Victim {
        name: "an ordinary user's run with keep-id",
        hit: &[Whom::Role(1)],
        prepare: |lab| {
            // The copy of the image for this map stays with the image.
            lab.user("podwire run --rm --userns keep-id -u 0 banner true").ok();
            None
        },
        command: "podwire run -d --name victim --userns keep-id -u 0 -p 8080:80 banner",
        done: RUNS,
        ..USERS
    },
    Victim {
        name: "an ordinary user's rm",
        hit: &[Whom::Role(0), NETD, MONITOR],
        arrange: RUN_NAMED,
        command: "podwire rm -f -t 0 victim",
        done: "! podwire container exists victim",
        ..USERS
    },
    Victim {
        name: "an ordinary user's network connect",
        arrange: "podwire network create victim && podwire run -d --name victim --network bridge -p 8080:80 banner",
        command: "podwire network connect victim victim",
        done: "[ $(podwire inspect -f '{{len .NetworkSettings.Networks}}' victim) = 2 ]",
        ..USERS
    },
];

const RELAY: Whom = Whom::Running("podwire-relay");
const LOOKOUT: Whom = Whom::Running("podwire-lookout");

/// Of every container on the LAN, the host is answered there.
const ON_THE_LAN: &str = "ips=$(podwire inspect -f '{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}' victim)
for ip in $ips; do
    curl -sS -o /dev/null -m 2 --retry 30 --retry-connrefused --retry-delay 0 http://$ip/ || exit 1
done";

/// Its server is another test's.
pub(crate) const ON_A_LEASE: Victim = Victim {
    name: "run that asks for a lease",
    command: "podwire run -d --name victim --network webnetwork banner",
    done: RUNS,
    whole: "true",
    clear: "podwire rm -f -t 0 victim",
    ..ROW
};

/// An image of a name and a layer of its own.
fn victim_archive(lab: &Lab) {
    let mut recipe = banner();
    recipe.name = "localhost/victim:latest".to_owned();
    recipe.files = BTreeMap::from([("www/victim".to_owned(), b"whole\n".repeat(10_000))]);
    let path = lab.path("/run/lab/victim.tar");
    docker_archive(&recipe, &path).expect("the image is made of busybox");
}

fn kube_file(lab: &Lab) {
    let text = "apiVersion: v1
kind: Pod
metadata:
  name: victim
spec:
  containers:
  - name: web
    image: localhost/banner
    imagePullPolicy: IfNotPresent
    ports:
    - containerPort: 80
      hostPort: 8080
    volumeMounts:
    - name: data
      mountPath: /data
  volumes:
  - name: data
    emptyDir: {}
";
    std::fs::write(lab.path("/run/lab/victim.yaml"), text).expect("a file of the lab");
}
