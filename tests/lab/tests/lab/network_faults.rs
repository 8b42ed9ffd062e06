//! kill -9 while networks change: the next command makes records and kernel agree, and neighbours notice nothing.

use lab::trial::Sentence;
use lab::{Lab, sentences};

use crate::faults::{RUN, Victim, Watched, Whom, kill_sampled};
use crate::words::patient;

pub(crate) fn sentences() -> Vec<Sentence> {
    sentences![patient(); &[];
        a_connection_killed_at_any_system_call_is_made_or_not,
        a_disconnection_killed_at_any_system_call_is_made_or_not,
        a_reload_killed_at_any_system_call_is_finished_by_the_next,
        a_removal_of_a_network_with_a_container_killed_at_any_system_call_leaks_nothing,
        an_update_of_a_network_killed_at_any_system_call_leaks_nothing,
        a_port_published_later_is_published_or_not_when_the_command_is_killed_at_any_system_call,
        a_port_taken_back_is_published_or_not_when_the_command_is_killed_at_any_system_call,
        a_first_run_killed_at_any_system_call_leaks_nothing,
        a_first_run_whose_netd_is_killed_at_any_system_call_leaks_nothing,
        a_netd_killed_at_any_system_call_during_a_run_is_replaced,
        a_netd_killed_at_any_system_call_during_a_connection_is_replaced,
        a_netd_killed_at_any_system_call_during_a_removal_is_replaced,
    ]
}

/// Places in each sweep where there is little time.
const FEW: u64 = 6;

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

/// What the command left is as it should be.
const AGREE: &str = agree!("");

/// Whatever is left of a container and its networks.
const CLEAR: &str = "podwire rm -f -t 0 victim; podwire network rm -f victim one two 2>/dev/null; true";

const CONNECT: Victim = Victim {
    arrange: "podwire network create victim && podwire run -d --name victim -p 8080:80 banner",
    command: "podwire network connect --alias db victim victim",
    whole: AGREE,
    clear: CLEAR,
};
const DISCONNECT: Victim = Victim {
    arrange: "podwire network create victim && podwire run -d --name victim --network podman,victim -p 8080:80 banner",
    // Its ports go over to the other network.
    command: "podwire network disconnect podman victim",
    ..CONNECT
};
const RELOAD: Victim = Victim {
    arrange: "podwire network create --interface-name br-victim victim && \
              podwire run -d --name victim --network victim -p 8080:80 banner && \
              ip addr flush dev br-victim && ip link set br-victim mtu 1400",
    command: "podwire network reload victim",
    whole: agree!("podwire network reload victim || exit 1"),
    ..CONNECT
};
const REMOVE_NETWORK: Victim = Victim {
    arrange: "podwire network create victim && podwire run -d --name victim --network victim -p 8080:80 banner",
    command: "podwire network rm -f -t 0 victim",
    ..CONNECT
};
const UPDATE_NETWORK: Victim = Victim {
    arrange: "podwire network create victim && podwire run -d --name victim --network victim -p 8080:80 banner",
    command: "podwire network update --dns-add 192.0.2.53 victim",
    ..CONNECT
};
const PUBLISH: Victim = Victim {
    arrange: "podwire run -d --name victim -p 8080:80 banner",
    command: "podwire update --publish-add 8081:80 --publish-add 8082:80/udp victim",
    ..CONNECT
};
const PUBLISH_NO_MORE: Victim = Victim {
    arrange: "podwire run -d --name victim -p 8080:80 -p 8081:80 banner",
    command: "podwire update --publish-rm 8081 victim",
    ..CONNECT
};
/// With names served.
const FIRST_RUN: Victim = Victim {
    arrange: "podwire network create victim",
    command: "podwire run -d --name victim --network victim -p 8080:80 banner",
    ..CONNECT
};
const REMOVE: Victim = Victim {
    arrange: "podwire network create victim && podwire run -d --name victim --network victim -p 8080:80 banner",
    command: "podwire rm -f -t 0 victim",
    ..CONNECT
};

fn killed(lab: &Lab, victim: &Victim) {
    kill_sampled(lab, Watched::new(lab), victim, Whom::Role(0), FEW);
}

fn netd_killed(lab: &Lab, victim: &Victim) {
    kill_sampled(lab, Watched::new(lab), victim, Whom::Netd, FEW);
}

fn a_connection_killed_at_any_system_call_is_made_or_not(lab: &Lab) {
    killed(lab, &CONNECT);
}

fn a_disconnection_killed_at_any_system_call_is_made_or_not(lab: &Lab) {
    killed(lab, &DISCONNECT);
}

fn a_reload_killed_at_any_system_call_is_finished_by_the_next(lab: &Lab) {
    killed(lab, &RELOAD);
}

fn a_removal_of_a_network_with_a_container_killed_at_any_system_call_leaks_nothing(lab: &Lab) {
    killed(lab, &REMOVE_NETWORK);
}

fn an_update_of_a_network_killed_at_any_system_call_leaks_nothing(lab: &Lab) {
    killed(lab, &UPDATE_NETWORK);
}

fn a_port_published_later_is_published_or_not_when_the_command_is_killed_at_any_system_call(lab: &Lab) {
    killed(lab, &PUBLISH);
}

fn a_port_taken_back_is_published_or_not_when_the_command_is_killed_at_any_system_call(lab: &Lab) {
    killed(lab, &PUBLISH_NO_MORE);
}

fn a_first_run_killed_at_any_system_call_leaks_nothing(lab: &Lab) {
    kill_sampled(lab, Watched::alone(lab), &FIRST_RUN, Whom::Role(0), FEW);
}

fn a_first_run_whose_netd_is_killed_at_any_system_call_leaks_nothing(lab: &Lab) {
    kill_sampled(lab, Watched::alone(lab), &FIRST_RUN, Whom::Role(1), FEW);
}

fn a_netd_killed_at_any_system_call_during_a_run_is_replaced(lab: &Lab) {
    netd_killed(lab, &Victim { whole: AGREE, ..RUN });
}

fn a_netd_killed_at_any_system_call_during_a_connection_is_replaced(lab: &Lab) {
    netd_killed(lab, &CONNECT);
}

fn a_netd_killed_at_any_system_call_during_a_removal_is_replaced(lab: &Lab) {
    netd_killed(lab, &REMOVE);
}
