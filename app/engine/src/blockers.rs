//! Rules of others that keep containers from talking, and the command that would allow it.
//!
//! ```text
//!   host::foreign_tables ──> every base chain ── Probe through it ──> accepted · doubtful · dropped by CHAIN
//!   out: new connection, bridge -> uplink   in: the same, uplink -> bridge   names: UDP, bridge -> gateway
//! ```
//!
//! **How it works.** In nf_tables a packet passes only if no table drops it: an accept of ours cannot help. So
//! the rules of others are followed, for a packet as a container would send it, to the verdict. What is not
//! understood counts as doubt, and doubt is not told: only what is sure to be dropped is.
//!
//! **Invariants.** Pure. Nothing of others is changed; the user is told how.
//!
//! **Limits.** nf_tables only: rules of iptables-legacy are not read. A port that only some clients may reach is
//! nobody's mistake, so sources outside are not varied.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use host::Host;
use host::foreign::{Base, ForeignTable, Hook, Loaded, Step, Verdict};
use model::{LinkName, Network, PortMapping};

use crate::endpoints::AttachedEndpoint;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::networking::{dns_port, usage};

/// A packet on its way.
#[derive(Clone, Copy)]
struct Probe<'a> {
    hook: Hook,
    input: &'a str,
    /// Empty for the host itself.
    output: &'a str,
    from: IpAddr,
    to: IpAddr,
    protocol: u8,
    ports: (u16, u16),
    /// Was its destination translated?
    translated: bool,
}

/// What is sure to be dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    /// From containers to others.
    Out,
    /// From others to published ports.
    In,
    /// Queries for names.
    Names,
}

impl Engine {
    /// Tells, as warnings, whose rules are sure to drop what these endpoints need.
    pub(crate) fn warn_of_blockers(&self, endpoints: &[AttachedEndpoint]) {
        // An ordinary user sees no rules of the host's, and in his own namespace there are none but ours.
        if self.options().rootless {
            return;
        }
        match self.find_blockers(endpoints) {
            Ok(sentences) => sentences.iter().for_each(|sentence| tracing::warn!("{sentence}")),
            // What cannot be read hinders nobody.
            Err(error) => tracing::debug!(%error, "cannot look for rules that block"),
        }
    }

    fn find_blockers(&self, endpoints: &[AttachedEndpoint]) -> Result<BTreeSet<String>> {
        let mut host = Host::open().map_err(usage)?;
        let tables = host.foreign_tables().map_err(usage)?;
        if tables.is_empty() || endpoints.is_empty() {
            return Ok(BTreeSet::new());
        }
        let uplink = host.uplink().map_err(usage)?.link;
        let mut sentences = BTreeSet::new();
        self.store.read(|tx| {
            let networks = tx.networks_of_all_scopes()?;
            for attached in endpoints {
                let Some(network) = networks.iter().find(|n| n.id == attached.network_id) else { continue };
                // What is on a LAN itself passes none of the host's rules.
                let (Some(_), Some(bridge)) = (network.bridge(), &network.link) else { continue };
                let wish = Wish {
                    network,
                    bridge,
                    uplink: uplink.as_ref(),
                    addresses: attached.endpoint.addrs.iter().map(|addr| addr.ip).collect(),
                    published: attached.endpoint.ports.first(),
                    dns: dns_port(tx, &network.id)?.filter(|_| network.dns),
                };
                sentences.extend(blockers(&wish, &tables));
            }
            Ok::<_, Error>(())
        })?;
        Ok(sentences)
    }
}

/// Who needs to get through.
pub(crate) struct Wish<'a> {
    /// On which network.
    pub(crate) network: &'a Network,
    /// And on which bridge.
    pub(crate) bridge: &'a LinkName,
    /// The link that traffic leaves by, if there is one.
    pub(crate) uplink: Option<&'a LinkName>,
    /// A container's addresses on it.
    pub(crate) addresses: Vec<IpAddr>,
    /// A port published there.
    pub(crate) published: Option<&'a PortMapping>,
    /// Where names are answered for it.
    pub(crate) dns: Option<u16>,
}

/// No link can have this name.
const ANY_LINK: &str = "/";
const TCP: u8 = 6;
const UDP: u8 = 17;
/// What a client's port is, mostly.
const CLIENT: u16 = 40_000;
/// Of TEST-NET-3 and the documentation prefix: nobody's, so that no rule about somebody speaks of them.
const OUTSIDE4: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 9));
const OUTSIDE6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 9));

/// One sentence for each chain of others that is sure to drop what the wish needs.
pub(crate) fn blockers(wish: &Wish<'_>, tables: &[ForeignTable]) -> Vec<String> {
    let mut found: BTreeMap<(usize, &str), BTreeSet<Way>> = BTreeMap::new();
    for (way, probe) in probes(wish) {
        for (n, table) in tables.iter().enumerate().filter(|(_, table)| speaks_of(table, &probe)) {
            for (name, chain) in &table.chains {
                if chain.base.is_some_and(|base| base.hook == probe.hook && drops(table, name, base, &probe)) {
                    found.entry((n, name)).or_default().insert(way);
                }
            }
        }
    }
    found.into_iter().map(|((n, chain), ways)| sentence(wish, &tables[n], chain, &ways)).collect()
}

fn probes<'a>(wish: &Wish<'a>) -> Vec<(Way, Probe<'a>)> {
    let bridge = wish.bridge.as_str();
    // Without one, packets can still leave by other routes, by a link that nobody knows.
    let uplink = wish.uplink.map_or(ANY_LINK, LinkName::as_str);
    let mut probes = Vec::new();
    for inside in wish.addresses.iter().copied() {
        let outside = if inside.is_ipv4() { OUTSIDE4 } else { OUTSIDE6 };
        let out = Probe {
            hook: Hook::Forward,
            input: bridge,
            output: uplink,
            from: inside,
            to: outside,
            protocol: TCP,
            ports: (CLIENT, 443),
            translated: false,
        };
        if let Some(mapping) = wish.published.filter(|mapping| mapping.host.includes(inside.is_ipv4())) {
            let (protocol, ports) = (mapping.protocol.number(), (CLIENT, mapping.container_port));
            let (input, output, from, to) = (uplink, bridge, outside, inside);
            probes.push((Way::In, Probe { input, output, from, to, protocol, ports, translated: true, ..out }));
        }
        let gateway = wish.network.subnets.iter().find_map(|s| s.gateway.filter(|_| s.subnet.contains(inside)));
        if let (Some(port), Some(to)) = (wish.dns, gateway) {
            let (hook, output, ports) = (Hook::Input, "", (CLIENT, port));
            let names = Probe { hook, output, to, protocol: UDP, ports, translated: true, ..out };
            probes.push((Way::Names, names));
        }
        if !wish.network.internal {
            probes.push((Way::Out, out));
        }
    }
    probes
}

/// A table of one family sees nothing of the other.
fn speaks_of(table: &ForeignTable, probe: &Probe<'_>) -> bool {
    table.family == "inet" || table.family == if probe.from.is_ipv4() { "ip" } else { "ip6" }
}

/// Is a base chain sure to drop the packet?
fn drops(table: &ForeignTable, chain: &str, base: Base, probe: &Probe<'_>) -> bool {
    let mut walk = Walk { table, probe, doubt: false };
    match walk.through(chain, true, 0) {
        End::Accepted => false,
        End::Dropped => !walk.doubt,
        End::Next => base.drops && !walk.doubt,
    }
}

/// What is known after a chain.
enum End {
    Accepted,
    Dropped,
    /// It goes on after it.
    Next,
}

/// Does a rule match?
#[derive(Clone, Copy, PartialEq, Eq)]
enum Match {
    Yes,
    No,
    Perhaps,
}

struct Walk<'a> {
    table: &'a ForeignTable,
    probe: &'a Probe<'a>,
    /// It may have been accepted on the way.
    doubt: bool,
}

impl Walk<'_> {
    /// nf_tables allows no deeper jumps (NFT_JUMP_STACK_SIZE), and no loops.
    const DEEPEST: u32 = 16;

    /// `sure`: the packet certainly comes here. Only then the end is certain, too.
    fn through(&mut self, chain: &str, sure: bool, depth: u32) -> End {
        let Some(chain) = self.table.chains.get(chain).filter(|_| depth <= Self::DEEPEST) else { return End::Next };
        // May it have left this chain before?
        let mut left = false;
        for rule in &chain.rules {
            let Some((verdict, matched)) = self.judge(rule) else { continue };
            let certain = sure && !left && matched == Match::Yes;
            match verdict {
                Verdict::Accept if certain => return End::Accepted,
                Verdict::Accept => self.doubt = true,
                Verdict::Drop if certain => return End::Dropped,
                Verdict::Drop => {}
                Verdict::Jump(to) => match self.through(to, certain, depth + 1) {
                    End::Next => {}
                    end => return end,
                },
                Verdict::Goto(to) => match self.through(to, certain, depth + 1) {
                    End::Next if !certain => left = true,
                    end => return end,
                },
                Verdict::Return if certain => return End::Next,
                Verdict::Return => left = true,
            }
        }
        End::Next
    }

    /// The verdict of a rule, unless it is sure not to be reached.
    fn judge<'r>(&self, rule: &'r [Step]) -> Option<(&'r Verdict, Match)> {
        let mut registers: BTreeMap<u32, Option<Vec<u8>>> = BTreeMap::new();
        let mut matched = Match::Yes;
        for step in rule {
            let now = match step {
                Step::Load(register, loaded) => {
                    registers.insert(*register, self.probe.load(*loaded));
                    Match::Yes
                }
                Step::Mask(register, mask) => {
                    if let Some(Some(bytes)) = registers.get_mut(register) {
                        bytes.iter_mut().zip(mask).for_each(|(byte, mask)| *byte &= mask);
                    }
                    Match::Yes
                }
                Step::Is(register, equal, value) => compared(&registers, *register, *equal, |held| begins(held, value)),
                Step::IsOneOf(register, among, values) => {
                    compared(&registers, *register, *among, |held| values.iter().any(|value| begins(held, value)))
                }
                Step::FlowStates(states) => of(states & self.probe.flow_states() != 0),
                Step::Unknown => Match::Perhaps,
                Step::Nothing => Match::Yes,
                Step::Verdict(verdict) => return Some((verdict, matched)),
            };
            match now {
                Match::No => return None,
                Match::Perhaps => matched = Match::Perhaps,
                Match::Yes => {}
            }
        }
        None
    }
}

fn compared(
    registers: &BTreeMap<u32, Option<Vec<u8>>>,
    register: u32,
    wanted: bool,
    is_it: impl FnOnce(&[u8]) -> bool,
) -> Match {
    match registers.get(&register) {
        Some(Some(held)) => of(is_it(held) == wanted),
        _ => Match::Perhaps,
    }
}

fn of(matches: bool) -> Match {
    if matches { Match::Yes } else { Match::No }
}

/// A comparison is as long as its value: `"podman*"` compares six bytes.
fn begins(held: &[u8], value: &[u8]) -> bool {
    held.starts_with(value)
}

impl Probe<'_> {
    fn load(&self, loaded: Loaded) -> Option<Vec<u8>> {
        match loaded {
            Loaded::InLink => Some(name(self.input)),
            Loaded::OutLink => Some(name(self.output)),
            // NFPROTO_IPV4, NFPROTO_IPV6
            Loaded::Family => Some(vec![if self.from.is_ipv4() { 2 } else { 10 }]),
            Loaded::Protocol => Some(vec![self.protocol]),
            // NF_CT_STATE_BIT(IP_CT_NEW)
            Loaded::State => Some(8_u32.to_ne_bytes().to_vec()),
            // IPS_DST_NAT | IPS_DST_NAT_DONE
            Loaded::Status => Some(if self.translated { 0x120_u32 } else { 0 }.to_ne_bytes().to_vec()),
            Loaded::Network(offset, len) => self.network_header(offset, len),
            Loaded::Transport(0, 2) => Some(self.ports.0.to_be_bytes().to_vec()),
            Loaded::Transport(2, 2) => Some(self.ports.1.to_be_bytes().to_vec()),
            Loaded::Transport(..) | Loaded::Other => None,
        }
    }

    /// Addresses and protocol, where they are in a header without options.
    fn network_header(&self, offset: u32, len: u32) -> Option<Vec<u8>> {
        let mut header: Vec<Option<u8>> = vec![None; 40];
        let mut put = |at: usize, bytes: &[u8]| bytes.iter().zip(&mut header[at..]).for_each(|(b, h)| *h = Some(*b));
        match (self.from, self.to) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                put(9, &[self.protocol]);
                put(12, &from.octets());
                put(16, &to.octets());
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                put(6, &[self.protocol]);
                put(8, &from.octets());
                put(24, &to.octets());
            }
            _ => {}
        }
        let (start, end) = (usize::try_from(offset).ok()?, usize::try_from(offset.checked_add(len)?).ok()?);
        header.get(start..end)?.iter().copied().collect()
    }

    /// `XT_CONNTRACK_STATE_BIT(IP_CT_NEW)`, and `XT_CONNTRACK_STATE_DNAT` of xt_conntrack.h.
    fn flow_states(&self) -> u32 {
        8 | if self.translated { 1 << 7 } else { 0 }
    }
}

/// As in a register: 16 bytes.
fn name(link: &str) -> Vec<u8> {
    let mut bytes = link.as_bytes().to_vec();
    bytes.resize(16, 0);
    bytes
}

fn sentence(wish: &Wish<'_>, table: &ForeignTable, chain: &str, ways: &BTreeSet<Way>) -> String {
    let network = &wish.network.name;
    let says = |way: &Way| match way {
        Way::Out => format!("what containers on network {network} send to others"),
        Way::In => format!("what others send to ports published on network {network}"),
        Way::Names => format!("queries for names from network {network}"),
    };
    let what = ways.iter().map(says).collect::<Vec<_>>().join(" and ");
    let ForeignTable { family, name, .. } = table;
    let allow = remedies(wish, table, chain, ways).join("; ");
    format!("chain {chain} of table {family} {name} drops {what}; to allow it: {allow}")
}

/// In the words of the program whose table it is.
fn remedies(wish: &Wish<'_>, table: &ForeignTable, chain: &str, ways: &BTreeSet<Way>) -> Vec<String> {
    let link = wish.bridge;
    if table.name == "firewalld" {
        // Traffic of a trusted link is neither rejected by its own zone nor by the one it goes to.
        return ["", "--permanent "]
            .map(|when| format!("firewall-cmd {when}--zone=trusted --add-interface={link}"))
            .into();
    }
    let iptables = if table.family == "ip6" { "ip6tables" } else { "iptables" };
    let ufw = ["ufw-user-forward", "ufw6-user-forward"].iter().any(|chain| table.chains.contains_key(*chain));
    let docker = table.chains.contains_key("DOCKER-USER");
    let one = |way: &Way| match way {
        Way::Names if ufw => format!("ufw allow in on {link} to any port {}", wish.dns.unwrap_or_default()),
        Way::Out if ufw => format!("ufw route allow in on {link}"),
        Way::In if ufw => format!("ufw route allow out on {link}"),
        Way::Out if docker => format!("{iptables} -I DOCKER-USER -i {link} -j ACCEPT"),
        Way::In if docker => format!("{iptables} -I DOCKER-USER -o {link} -j ACCEPT"),
        Way::Names => {
            let port = wish.dns.unwrap_or_default();
            let what = format!("iifname {link} meta l4proto '{{ tcp, udp }}' th dport {port}");
            format!("nft insert rule {} {} {chain} {what} accept", table.family, table.name)
        }
        way => {
            let side = if *way == Way::In { "oifname" } else { "iifname" };
            format!("nft insert rule {} {} {chain} {side} {link} accept", table.family, table.name)
        }
    };
    ways.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use host::foreign::ForeignChain;

    const FORWARD: Base = Base { hook: Hook::Forward, drops: true };

    fn network() -> Network {
        let surroundings = ipam::Surroundings { networks: &[], used: &[], links: &[] };
        ipam::default_network(&surroundings, None, ipam::POOLS, "").unwrap()
    }

    /// Name, hook, rules.
    type Chain<'a> = (&'a str, Option<Base>, Vec<Vec<Step>>);

    fn table(name: &str, chains: &[Chain<'_>]) -> ForeignTable {
        let chains = chains
            .iter()
            .map(|(name, base, rules)| ((*name).to_owned(), ForeignChain { base: *base, rules: rules.clone() }));
        ForeignTable { family: "ip", name: name.to_owned(), chains: chains.collect() }
    }

    fn told(tables: &[ForeignTable]) -> Vec<String> {
        let network = network();
        let wish = Wish {
            network: &network,
            bridge: network.link.as_ref().unwrap(),
            uplink: Some(&"eth0".parse().unwrap()),
            addresses: vec!["10.88.0.2".parse().unwrap()],
            published: None,
            dns: None,
        };
        blockers(&wish, tables)
    }

    /// `iifname LINK`, for a link or (`podman*`) for many.
    fn from_link(link: &str) -> Vec<Step> {
        let value = link.strip_suffix('*').map_or_else(|| name(link), |prefix| prefix.as_bytes().to_vec());
        vec![Step::Load(1, Loaded::InLink), Step::Is(1, true, value)]
    }

    fn and(mut rule: Vec<Step>, verdict: Verdict) -> Vec<Step> {
        rule.push(Step::Nothing);
        rule.push(Step::Verdict(verdict));
        rule
    }

    #[track_caller]
    fn passes(rules: Vec<Vec<Step>>) {
        assert_eq!(told(&[table("filter", &[("FORWARD", Some(FORWARD), rules)])]), Vec::<String>::new());
    }

    #[track_caller]
    fn is_dropped(rules: Vec<Vec<Step>>) {
        let told = told(&[table("filter", &[("FORWARD", Some(FORWARD), rules)])]);
        assert!(
            told.len() == 1 && told[0].starts_with("chain FORWARD of table ip filter drops what containers"),
            "{told:?}"
        );
    }

    #[test]
    fn a_policy_to_drop_is_told_with_what_would_allow_it() {
        assert_eq!(
            told(&[table("filter", &[("FORWARD", Some(FORWARD), vec![])])]),
            ["chain FORWARD of table ip filter drops what containers on network podman send to others; to allow it: \
              nft insert rule ip filter FORWARD iifname podman0 accept"]
        );
        let accepts = Base { drops: false, ..FORWARD };
        assert_eq!(told(&[table("filter", &[("FORWARD", Some(accepts), vec![])])]), Vec::<String>::new());
        let of_ipv6 = ForeignTable { family: "ip6", ..table("filter", &[("FORWARD", Some(FORWARD), vec![])]) };
        assert_eq!(told(&[of_ipv6]), Vec::<String>::new());
    }

    #[test]
    fn who_rejects_in_the_last_rule_is_told_too() {
        let reject = vec![Step::Verdict(Verdict::Drop)];
        let chain =
            ("forward", Some(Base { drops: false, ..FORWARD }), vec![and(from_link("lo"), Verdict::Accept), reject]);
        assert!(told(&[table("mine", &[chain])])[0].starts_with("chain forward of table ip mine drops"));
    }

    #[test]
    fn rules_that_accept_our_links_addresses_or_everything_are_followed() {
        passes(vec![and(from_link("podman0"), Verdict::Accept)]);
        passes(vec![and(from_link("podman*"), Verdict::Accept)]);
        passes(vec![vec![Step::Verdict(Verdict::Accept)]]);
        let source = |subnet: [u8; 4]| {
            let mask = Step::Mask(1, vec![255, 255, 0, 0]);
            vec![Step::Load(1, Loaded::Network(12, 4)), mask, Step::Is(1, true, subnet.to_vec())]
        };
        passes(vec![and(source([10, 88, 0, 0]), Verdict::Accept)]);
        is_dropped(vec![and(source([10, 89, 0, 0]), Verdict::Accept)]);
        is_dropped(vec![and(from_link("docker0"), Verdict::Accept)]);
        let among = |links: &[&str]| {
            vec![Step::Load(1, Loaded::InLink), Step::IsOneOf(1, true, links.iter().map(|link| name(link)).collect())]
        };
        passes(vec![and(among(&["docker0", "podman0"]), Verdict::Accept)]);
        is_dropped(vec![and(among(&["docker0"]), Verdict::Accept)]);
    }

    #[test]
    fn flows_that_exist_are_not_ours_yet() {
        let established = vec![
            Step::Load(1, Loaded::State),
            Step::Mask(1, 6_u32.to_ne_bytes().to_vec()),
            Step::Is(1, false, vec![0; 4]),
        ];
        is_dropped(vec![and(established, Verdict::Accept)]);
        is_dropped(vec![and(vec![Step::FlowStates(6)], Verdict::Accept)]);
        passes(vec![and(vec![Step::FlowStates(8)], Verdict::Accept)]);
    }

    #[test]
    fn what_is_not_understood_is_not_told() {
        passes(vec![and(vec![Step::Unknown], Verdict::Accept)]);
        passes(vec![and(vec![Step::Unknown], Verdict::Accept), vec![Step::Verdict(Verdict::Drop)]]);
        is_dropped(vec![and(vec![Step::Unknown], Verdict::Drop)]);
        let chains = |first: Vec<Step>| {
            let rules = vec![vec![Step::Verdict(Verdict::Jump("sub".to_owned()))]];
            let sub = vec![and(first, Verdict::Return), vec![Step::Verdict(Verdict::Drop)]];
            let base = Base { drops: false, ..FORWARD };
            [table("filter", &[("FORWARD", Some(base), rules), ("sub", None, sub)])]
        };
        assert_eq!(told(&chains(vec![Step::Unknown])), Vec::<String>::new());
        assert_eq!(told(&chains(from_link("lo"))).len(), 1);
        assert_eq!(told(&chains(from_link("podman0"))), Vec::<String>::new());
    }

    #[test]
    fn docker_ufw_and_firewalld_are_spoken_to_in_their_own_words() {
        let jump = |to: &str| vec![Step::Verdict(Verdict::Jump(to.to_owned()))];
        let with =
            |chain: &str| table("filter", &[("FORWARD", Some(FORWARD), vec![jump(chain)]), (chain, None, vec![])]);
        let allow = |table: ForeignTable| told(&[table])[0].split_once("to allow it: ").unwrap().1.to_owned();
        assert_eq!(allow(with("DOCKER-USER")), "iptables -I DOCKER-USER -i podman0 -j ACCEPT");
        assert_eq!(allow(with("ufw-user-forward")), "ufw route allow in on podman0");
        let reject = vec![vec![Step::Verdict(Verdict::Drop)]];
        let firewalld = table("firewalld", &[("filter_FORWARD", Some(FORWARD), reject)]);
        assert_eq!(
            allow(firewalld),
            "firewall-cmd --zone=trusted --add-interface=podman0; firewall-cmd --permanent --zone=trusted \
             --add-interface=podman0"
        );
    }

    #[test]
    fn published_ports_and_names_are_looked_at_where_they_pass() {
        let network = network();
        let spec: model::PortSpec = "8080:80".parse().unwrap();
        let mapping = spec.at(8080);
        let wish = Wish {
            network: &network,
            bridge: network.link.as_ref().unwrap(),
            uplink: Some(&"eth0".parse().unwrap()),
            addresses: vec!["10.88.0.2".parse().unwrap()],
            published: Some(&mapping),
            dns: Some(834),
        };
        let input = Base { hook: Hook::Input, drops: true };
        let to_80 = vec![Step::Load(1, Loaded::Transport(2, 2)), Step::Is(1, true, 80_u16.to_be_bytes().to_vec())];
        let tables = [table(
            "filter",
            &[("FORWARD", Some(FORWARD), vec![and(to_80, Verdict::Accept)]), ("INPUT", Some(input), vec![])],
        )];
        let told = blockers(&wish, &tables);
        assert!(told[0].starts_with("chain FORWARD of table ip filter drops what containers on network podman send"));
        let names = "drops queries for names from network podman; to allow it: nft insert rule ip filter INPUT iifname podman0 \
                     meta l4proto '{ tcp, udp }' th dport 834 accept";
        assert!(told[1].ends_with(names), "{}", told[1]);
        assert_eq!(told.len(), 2);
    }
}
