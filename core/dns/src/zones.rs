//! Who is on which network under which names: an immutable index, made anew for every change.
//!
//! A look-up costs a hash of the listener's network, one of the asker's address, and one of the name for each
//! network the asker is on, whatever the number of members.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::Bound;
use std::sync::Arc;

use model::{DnsName, NetworkId, NetworkName, Subnet};

use crate::message::Name;

/// An upstream list is cut here; resolv.conf has at most three.
const UPSTREAMS_MAX: usize = 8;

/// Everything there is to know, as a plain list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directory {
    /// Our own zone: names are found bare and with this behind them. `dns.podman`.
    pub suffix: DnsName,
    /// Every network whose names are served.
    pub networks: Vec<ZoneNetwork>,
    /// Whoever has names on them.
    pub members: Vec<Member>,
    /// The host's upstreams, first asked first.
    pub upstreams: Vec<SocketAddr>,
}

impl Directory {
    /// Nobody anywhere.
    pub fn new(suffix: DnsName) -> Self {
        Self { suffix, networks: Vec::new(), members: Vec::new(), upstreams: Vec::new() }
    }
}

/// A network whose names are served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ZoneNetwork {
    /// What a listener says it belongs to.
    pub id: NetworkId,
    /// For people.
    pub name: NetworkName,
    /// Only sources inside are answered.
    pub subnets: Vec<Subnet>,
    /// Our own addresses, where we listen: never asked as an upstream.
    pub gateways: Vec<IpAddr>,
    /// Is there a way out?
    pub reach: Reach,
    /// Asked by members without upstreams of their own, instead of the host's.
    pub upstreams: Vec<SocketAddr>,
}

/// Whether a network has a way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Names not known here are forwarded.
    Outside,
    /// Not even names leave, unless the asker is on another network too.
    Internal,
}

/// Usually a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Asked for this member instead of its networks' and the host's.
    pub upstreams: Vec<SocketAddr>,
    /// Where it is.
    pub presences: Vec<Presence>,
}

/// A member on one network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Presence {
    /// Which; a presence on an unknown network is passed over.
    pub network: NetworkId,
    /// Its addresses there.
    pub addresses: Vec<IpAddr>,
    /// Its names there: the container's, aliases, short id, hostname. The order is kept for PTR.
    pub names: Vec<DnsName>,
}

/// The index of a [`Directory`].
#[derive(Debug)]
pub struct Zones {
    /// In wire form and lower case, the final zero included.
    suffix: Box<[u8]>,
    networks: Vec<Zone>,
    by_id: HashMap<NetworkId, usize>,
    members: Vec<Scope>,
    /// Our private subnets by first address; none lies in another, so the last one before an address decides.
    private: BTreeMap<IpAddr, Subnet>,
}

/// The names of one network.
#[derive(Debug)]
struct Zone {
    name: NetworkName,
    subnets: Vec<Subnet>,
    names: HashMap<Box<[u8]>, Addresses>,
    /// `b` of a name `a.b`: under our suffix it exists, without records (RFC 8020).
    above: HashSet<Box<[u8]>>,
    holders: HashMap<IpAddr, Holder>,
    /// For sources that are no members: being set up, just stopped, or the host itself.
    others: Scope,
}

/// Who has an address.
#[derive(Debug)]
struct Holder {
    member: usize,
    /// In wire form, the final zero included.
    names: Vec<Box<[u8]>>,
}

/// What an asker is told.
#[derive(Debug)]
struct Scope {
    networks: Vec<usize>,
    outside: Outside,
}

/// Where the names go that we don't know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outside {
    /// Nowhere: the asker is only on internal networks.
    Closed,
    /// To these, in order; there may be none.
    Open(Arc<[SocketAddr]>),
}

/// The addresses of a name, each once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Addresses {
    pub(crate) v4: Vec<Ipv4Addr>,
    pub(crate) v6: Vec<Ipv6Addr>,
}

impl Addresses {
    fn add(&mut self, ip: IpAddr) {
        match ip {
            IpAddr::V4(ip) => add_new(&mut self.v4, ip),
            IpAddr::V6(ip) => add_new(&mut self.v6, ip),
        }
    }

    fn merge(&mut self, other: &Self) {
        other.v4.iter().for_each(|&ip| add_new(&mut self.v4, ip));
        other.v6.iter().for_each(|&ip| add_new(&mut self.v6, ip));
    }
}

impl Zones {
    /// Indexes `directory`.
    pub fn new(directory: &Directory) -> Self {
        let ours: HashSet<IpAddr> = directory.networks.iter().flat_map(|n| n.gateways.iter().copied()).collect();
        let upstreams = Upstreams { ours, host: &directory.upstreams };
        let by_id = directory.networks.iter().enumerate().map(|(at, network)| (network.id, at)).collect();
        let mut zones = Self {
            suffix: wire(&directory.suffix),
            networks: Vec::with_capacity(directory.networks.len()),
            by_id,
            members: Vec::with_capacity(directory.members.len()),
            private: disjoint(directory.networks.iter().flat_map(|n| &n.subnets).filter(|s| is_private(s.network()))),
        };
        for (at, network) in directory.networks.iter().enumerate() {
            let others = scope(vec![at], &[], directory, &upstreams);
            zones.networks.push(Zone::new(network, others));
        }
        for member in &directory.members {
            zones.add(member, directory, &upstreams);
        }
        zones
    }

    fn add(&mut self, member: &Member, directory: &Directory, upstreams: &Upstreams<'_>) {
        let mut networks = Vec::new();
        for presence in &member.presences {
            if let Some(&at) = self.by_id.get(&presence.network) {
                self.networks[at].add(presence, self.members.len());
                add_new(&mut networks, at);
            }
        }
        self.members.push(scope(networks, &member.upstreams, directory, upstreams));
    }

    /// Every address `name`, bare or with the suffix, has on any network: the host's own view. In the networks'
    /// order, without a limit by membership.
    pub fn resolve(&self, name: &DnsName) -> Vec<(&NetworkName, IpAddr)> {
        let wire = wire(name);
        let local = self.under_suffix(&wire).unwrap_or(&wire[..wire.len() - 1]);
        let holding = self.networks.iter().filter_map(|zone| Some((&zone.name, zone.names.get(local)?)));
        let each = |addresses: &Addresses| {
            let v4 = addresses.v4.iter().copied().map(IpAddr::V4);
            v4.chain(addresses.v6.iter().copied().map(IpAddr::V6)).collect::<Vec<_>>()
        };
        holding.flat_map(|(network, addresses)| each(addresses).into_iter().map(move |ip| (network, ip))).collect()
    }

    /// Who asks from `source` on a listener of `network`. `None` for a source outside the network's subnets: it is
    /// told nothing at all.
    pub(crate) fn asker(&self, network: &NetworkId, source: IpAddr) -> Option<Asker<'_>> {
        let zone = &self.networks[*self.by_id.get(network)?];
        if !zone.subnets.iter().any(|subnet| subnet.contains(source)) {
            return None;
        }
        let holder = zone.holders.get(&source);
        let scope = holder.map_or(&zone.others, |holder| &self.members[holder.member]);
        Some(Asker { zones: self, scope, is_member: holder.is_some() })
    }

    /// What stands before our suffix, without a final zero: empty for the suffix itself.
    fn under_suffix<'n>(&self, name: &'n [u8]) -> Option<&'n [u8]> {
        let local = name.len().checked_sub(self.suffix.len()).filter(|_| name.ends_with(&self.suffix))?;
        labels(name).any(|at| at == local).then(|| &name[..local])
    }
}

impl Zone {
    fn new(network: &ZoneNetwork, others: Scope) -> Self {
        Self {
            name: network.name.clone(),
            subnets: network.subnets.clone(),
            names: HashMap::new(),
            above: HashSet::new(),
            holders: HashMap::new(),
            others,
        }
    }

    fn add(&mut self, presence: &Presence, member: usize) {
        for name in &presence.names {
            let wire = wire(name);
            let bare = &wire[..wire.len() - 1];
            for at in labels(&wire).skip(1).filter(|&at| at < bare.len()) {
                self.above.insert(bare[at..].into());
            }
            let addresses = self.names.entry(bare.into()).or_default();
            presence.addresses.iter().for_each(|&ip| addresses.add(ip));
            for &ip in &presence.addresses {
                let holder = self.holders.entry(ip).or_insert(Holder { member, names: Vec::new() });
                add_new(&mut holder.names, wire.clone());
            }
        }
        for &ip in &presence.addresses {
            // Of two with one address the later is alive; PTR tells of both.
            self.holders.entry(ip).or_insert(Holder { member, names: Vec::new() }).member = member;
        }
    }
}

/// The lists an upstream can come from.
struct Upstreams<'a> {
    /// Our own addresses: asking them would be asking ourselves.
    ours: HashSet<IpAddr>,
    host: &'a [SocketAddr],
}

impl Upstreams<'_> {
    fn usable(&self, list: &mut Vec<SocketAddr>) {
        list.retain(|upstream| !self.ours.contains(&upstream.ip()));
    }

    /// The member's, or else its networks', or else the host's, as in Podman: who names a server of his own does
    /// not want the host's to hear of it.
    fn choose(&self, member: &[SocketAddr], networks: &[&ZoneNetwork]) -> Arc<[SocketAddr]> {
        let of_networks = networks.iter().flat_map(|network| &network.upstreams).copied().collect();
        for mut list in [member.to_vec(), of_networks, self.host.to_vec()] {
            self.usable(&mut list);
            if !list.is_empty() {
                let mut once = Vec::new();
                list.into_iter().for_each(|upstream| add_new(&mut once, upstream));
                once.truncate(UPSTREAMS_MAX);
                return once.into();
            }
        }
        Arc::new([])
    }
}

fn scope(networks: Vec<usize>, member: &[SocketAddr], directory: &Directory, upstreams: &Upstreams<'_>) -> Scope {
    let with_way_out = |at: &&usize| directory.networks[**at].reach == Reach::Outside;
    let ways: Vec<&ZoneNetwork> = networks.iter().filter(with_way_out).map(|&at| &directory.networks[at]).collect();
    let outside = if ways.is_empty() { Outside::Closed } else { Outside::Open(upstreams.choose(member, &ways)) };
    Scope { networks, outside }
}

/// What one asker may know.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asker<'z> {
    zones: &'z Zones,
    scope: &'z Scope,
    /// False for a source in the network that nobody is known to have.
    pub(crate) is_member: bool,
}

/// What a name is for an asker. `apex`: where in the name the zone begins that we answer for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found<'z> {
    /// A member's name.
    Addresses { addresses: Cow<'z, Addresses>, apex: usize },
    /// The reverse name of a member's address.
    Names { names: Vec<&'z [u8]>, apex: usize },
    /// Our own zone itself.
    Apex,
    /// Ours, and without any record.
    Empty { apex: usize },
    /// Ours, and not there.
    Absent { apex: usize },
    /// Not ours.
    Outside,
}

impl<'z> Asker<'z> {
    /// Where the names go that are not ours.
    pub(crate) fn outside(&self) -> &'z Outside {
        &self.scope.outside
    }

    /// Looks `name` up on all networks of the asker.
    pub(crate) fn find(&self, name: Name<'_>) -> Found<'z> {
        let mut lower = [0; 255];
        let lower = &mut lower[..name.wire().len()];
        lower.copy_from_slice(name.wire());
        // Lengths of labels are below every letter, so they stay.
        lower.make_ascii_lowercase();
        match self.zones.under_suffix(lower) {
            Some([]) => Found::Apex,
            Some(local) => self.own(local),
            None => self.bare(lower),
        }
    }

    fn own(&self, local: &[u8]) -> Found<'z> {
        let apex = local.len();
        if let Some(addresses) = self.addresses(local) {
            return Found::Addresses { addresses, apex };
        }
        if self.zones().any(|zone| zone.above.contains(local)) {
            return Found::Empty { apex };
        }
        Found::Absent { apex }
    }

    fn bare(&self, name: &[u8]) -> Found<'z> {
        if let Some(addresses) = self.addresses(&name[..name.len() - 1]) {
            return Found::Addresses { addresses, apex: 0 };
        }
        Reverse::parse(name).map_or(Found::Outside, |reverse| self.reverse(name, &reverse))
    }

    fn reverse(&self, name: &[u8], reverse: &Reverse) -> Found<'z> {
        let ours = self.zones.private_subnet(reverse);
        let apex = ours.map_or(0, |subnet| reverse_apex(name, &subnet));
        if reverse.is_address() {
            let holders = self.zones().filter_map(|zone| zone.holders.get(&reverse.ip));
            let mut names: Vec<&[u8]> = Vec::new();
            holders.flat_map(|holder| &holder.names).for_each(|name| add_new(&mut names, name));
            if !names.is_empty() {
                return Found::Names { names, apex };
            }
        }
        match ours {
            None => Found::Outside,
            Some(_) if reverse.is_address() || reverse.below => Found::Absent { apex },
            Some(_) => Found::Empty { apex },
        }
    }

    /// Of the name on all shared networks; no copy is made when it is only on one.
    fn addresses(&self, local: &[u8]) -> Option<Cow<'z, Addresses>> {
        let mut holding = self.zones().filter_map(|zone| zone.names.get(local));
        let first = Cow::Borrowed(holding.next()?);
        Some(holding.fold(first, |mut all, more| {
            all.to_mut().merge(more);
            all
        }))
    }

    fn zones(&self) -> impl Iterator<Item = &'z Zone> + use<'z> {
        let zones = self.zones;
        self.scope.networks.iter().map(|&at| &zones.networks[at])
    }
}

impl Zones {
    /// The private subnet of ours that everything under `reverse` lies in.
    fn private_subnet(&self, reverse: &Reverse) -> Option<Subnet> {
        let (_, subnet) = self.private.range((Bound::Unbounded, Bound::Included(reverse.ip))).next_back()?;
        (subnet.contains(reverse.ip) && reverse.bits >= subnet.len()).then_some(*subnet)
    }
}

/// A name in `in-addr.arpa` or `ip6.arpa`.
#[derive(Debug, PartialEq, Eq)]
struct Reverse {
    /// The address, with zeros behind `bits`.
    ip: IpAddr,
    bits: u8,
    /// There are labels below that are no part of the address: `_dns-sd` and the like.
    below: bool,
}

impl Reverse {
    /// `name` in lower case.
    fn parse(name: &[u8]) -> Option<Self> {
        let mut starts = [0; 128];
        let mut count = 0;
        for (slot, at) in starts.iter_mut().zip(labels(name)) {
            *slot = at;
            count += 1;
        }
        let label = |at: &usize| &name[at + 1..][..usize::from(name[*at])];
        // From the root on; the empty label of the root itself is first.
        let mut parts = starts[..count].iter().rev().map(label).skip(1);
        if parts.next()? != b"arpa" {
            return None;
        }
        match parts.next()? {
            b"in-addr" => Some(Self::read(parts, 8, 32, octet, |bits| Ipv4Addr::from((bits >> 96) as u32).into())),
            b"ip6" => Some(Self::read(parts, 4, 128, nibble, |bits| Ipv6Addr::from(bits).into())),
            _ => None,
        }
    }

    /// Reads labels of `step` bits each into the top of a 128-bit number, at most `width` bits.
    fn read<'n>(
        parts: impl Iterator<Item = &'n [u8]>,
        step: u8,
        width: u8,
        digit: fn(&[u8]) -> Option<u8>,
        ip: fn(u128) -> IpAddr,
    ) -> Self {
        let (mut value, mut bits, mut below) = (0, 0, false);
        for part in parts {
            let Some(digit) = digit(part).filter(|_| bits < width) else {
                below = true;
                break;
            };
            bits += step;
            value |= u128::from(digit) << (128 - u32::from(bits));
        }
        Self { ip: ip(value), bits, below }
    }

    fn is_address(&self) -> bool {
        !self.below && self.bits == if self.ip.is_ipv4() { 32 } else { 128 }
    }
}

/// Where in a reverse name the zone of `subnet` begins: at the first label whose bits all lie within.
fn reverse_apex(name: &[u8], subnet: &Subnet) -> usize {
    let step = if subnet.is_ipv4() { 8 } else { 4 };
    // in-addr or ip6, arpa, and the root.
    let kept = usize::from(subnet.len().div_ceil(step)) + 3;
    let count = labels(name).count();
    labels(name).nth(count.saturating_sub(kept)).unwrap_or(0)
}

/// 0 to 255 in its only spelling.
fn octet(label: &[u8]) -> Option<u8> {
    let plain = matches!(label, [b'0'] | [b'1'..=b'9', ..]) && label.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(label).ok().filter(|_| plain)?.parse().ok()
}

/// One hexadecimal digit.
fn nibble(label: &[u8]) -> Option<u8> {
    let &[digit] = label else { return None };
    char::from(digit).to_digit(16).map(|digit| digit as u8)
}

/// Where the labels of a well-formed name begin, the root's empty one included.
fn labels(name: &[u8]) -> impl Iterator<Item = usize> + '_ {
    let mut next = Some(0);
    std::iter::from_fn(move || {
        let at = next?;
        let length = usize::from(*name.get(at)?);
        next = (length > 0).then_some(at + 1 + length);
        Some(at)
    })
}

/// In lower case, the final zero included.
fn wire(name: &DnsName) -> Box<[u8]> {
    let mut wire = Vec::with_capacity(name.as_str().len() + 2);
    for label in name.as_str().split('.') {
        wire.push(label.len() as u8);
        wire.extend(label.bytes().map(|byte| byte.to_ascii_lowercase()));
    }
    wire.push(0);
    wire.into()
}

/// Without those that lie in others.
fn disjoint<'a>(subnets: impl Iterator<Item = &'a Subnet>) -> BTreeMap<IpAddr, Subnet> {
    let mut sorted: Vec<Subnet> = subnets.copied().collect();
    // A wider subnet stands before those it holds.
    sorted.sort_by_key(|subnet| (subnet.network(), subnet.len()));
    let mut kept = BTreeMap::new();
    let mut last: Option<Subnet> = None;
    for subnet in sorted {
        if !last.is_some_and(|wider| wider.contains(subnet.network())) {
            kept.insert(subnet.network(), subnet);
            last = Some(subnet);
        }
    }
    kept
}

/// Addresses whose reverse names nobody outside can know: RFC 1918, 6598, 3927, 4193, link-local.
fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            let shared = u32::from(ip) >> 22 == u32::from(Ipv4Addr::new(100, 64, 0, 0)) >> 22;
            ip.is_private() || ip.is_link_local() || shared
        }
        IpAddr::V6(ip) => ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}

fn add_new<T: PartialEq>(list: &mut Vec<T>, item: T) {
    if !list.contains(&item) {
        list.push(item);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> NetworkId {
        NetworkId::from_bytes([n; 32])
    }

    fn network(n: u8, subnets: &[&str], reach: Reach) -> ZoneNetwork {
        ZoneNetwork {
            id: id(n),
            name: format!("net{n}").parse().unwrap(),
            subnets: subnets.iter().map(|text| text.parse().unwrap()).collect(),
            gateways: vec![format!("10.89.{n}.1").parse().unwrap()],
            reach,
            upstreams: Vec::new(),
        }
    }

    fn presence(n: u8, addresses: &[&str], names: &[&str]) -> Presence {
        Presence {
            network: id(n),
            addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
            names: names.iter().map(|text| text.parse().unwrap()).collect(),
        }
    }

    /// web on 1 and 2, db on 1, other on 2, vault on the internal 3; upstream 192.0.2.53 of the host.
    fn directory() -> Directory {
        let member = |presences: Vec<Presence>| Member { upstreams: Vec::new(), presences };
        Directory {
            networks: vec![
                network(1, &["10.89.1.0/24", "fd00:1::/64"], Reach::Outside),
                network(2, &["10.89.2.0/24", "10.0.0.0/24"], Reach::Outside),
                network(3, &["10.89.3.0/24"], Reach::Internal),
            ],
            members: vec![
                member(vec![
                    presence(1, &["10.89.1.2", "fd00:1::2"], &["web", "www"]),
                    presence(2, &["10.89.2.2"], &["web"]),
                ]),
                member(vec![presence(1, &["10.89.1.3"], &["db", "www", "db", "eu.Store"])]),
                member(vec![presence(2, &["10.89.2.4"], &["other", "web"])]),
                member(vec![presence(3, &["10.89.3.2"], &["vault"])]),
            ],
            upstreams: vec!["192.0.2.53:53".parse().unwrap()],
            ..Directory::new("dns.podman".parse().unwrap())
        }
    }

    /// What `source` on `network` finds, in a few words.
    fn find(network: u8, source: &str, name: &str) -> String {
        let zones = Zones::new(&directory());
        let Some(asker) = zones.asker(&id(network), source.parse().unwrap()) else { return "stranger".to_owned() };
        let message = [&[0; 12], &*raw(name), &[0; 4]].concat();
        let header = crate::message::Header::parse(b"\0\0\0\0\0\x01\0\0\0\0\0\0").unwrap();
        match asker.find(crate::message::Query::parse(header, &message).unwrap().question.name) {
            Found::Addresses { addresses, apex } => format!("{:?} {:?} {apex}", addresses.v4, addresses.v6),
            Found::Names { names, apex } => {
                let text = names.iter().map(|name| String::from_utf8_lossy(&name[1..name.len() - 1]).into_owned());
                format!("{} {apex}", text.collect::<Vec<_>>().join(" "))
            }
            other => format!("{other:?}"),
        }
    }

    /// Unlike `wire`, keeps case and takes any labels.
    fn raw(name: &str) -> Vec<u8> {
        let labels = name.split('.').flat_map(|label| [&[label.len() as u8], label.as_bytes()].concat());
        labels.chain([0]).collect()
    }

    #[test]
    fn a_name_has_the_addresses_of_all_shared_networks_each_once() {
        assert_eq!(find(1, "10.89.1.2", "web"), "[10.89.1.2, 10.89.2.2, 10.89.2.4] [fd00:1::2] 0");
        assert_eq!(find(1, "10.89.1.3", "web"), "[10.89.1.2] [fd00:1::2] 0");
        assert_eq!(find(1, "10.89.1.3", "WWW.Dns.Podman"), "[10.89.1.2, 10.89.1.3] [fd00:1::2] 4");
    }

    #[test]
    fn a_network_s_names_are_told_only_to_its_members() {
        assert_eq!(find(1, "10.89.1.3", "other"), "Outside");
        assert_eq!(find(1, "10.89.1.3", "other.dns.podman"), "Absent { apex: 6 }");
        assert_eq!(find(2, "10.89.1.3", "other"), "stranger");
        assert_eq!(find(9, "10.89.1.3", "other"), "stranger");
    }

    #[test]
    fn the_suffix_counts_only_as_whole_labels() {
        assert_eq!(find(1, "10.89.1.2", "dns.podman"), "Apex");
        assert_eq!(find(1, "10.89.1.2", "xdns.podman"), "Outside");
        // One label that holds the octets of the suffix is not the suffix.
        assert_eq!(find(1, "10.89.1.2", "x\u{3}dns\u{6}podman"), "Outside");
    }

    #[test]
    fn what_lies_above_a_name_exists_only_under_our_suffix() {
        assert_eq!(find(1, "10.89.1.2", "eu.store"), "[10.89.1.3] [] 0");
        assert_eq!(find(1, "10.89.1.2", "store.dns.podman"), "Empty { apex: 6 }");
        assert_eq!(find(1, "10.89.1.2", "store"), "Outside");
    }

    #[test]
    fn an_address_has_all_names_of_its_holder() {
        assert_eq!(find(1, "10.89.1.2", "3.1.89.10.in-addr.arpa"), "db www eu\u{5}store 2");
        let v6 = "2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.1.0.0.0.0.0.D.F.IP6.arpa";
        assert_eq!(find(1, "10.89.1.3", v6), "web www 32");
    }

    #[test]
    fn reverse_names_of_our_private_subnets_never_leave() {
        assert_eq!(find(1, "10.89.1.2", "99.1.89.10.in-addr.arpa"), "Absent { apex: 3 }");
        assert_eq!(find(1, "10.89.1.3", "2.3.89.10.in-addr.arpa"), "Absent { apex: 2 }", "another network's");
        assert_eq!(find(1, "10.89.1.3", "1.89.10.in-addr.arpa"), "Empty { apex: 0 }");
        assert_eq!(find(1, "10.89.1.3", "b._dns-sd._udp.0.1.89.10.in-addr.arpa"), "Absent { apex: 17 }");
        for outside in [
            "89.10.in-addr.arpa",
            "0.10.in-addr.arpa",
            "1.1.0.10.in-addr.arpa",
            "8.8.8.8.in-addr.arpa",
            "d.f.ip6.arpa",
            "arpa",
        ] {
            assert_eq!(find(1, "10.89.1.3", outside), "Outside", "{outside}");
        }
    }

    #[test]
    fn nested_subnets_are_one() {
        let subnets: Vec<Subnet> =
            ["10.0.0.0/8", "10.1.0.0/16", "fd00::/64", "10.0.0.0/16"].map(|text| text.parse().unwrap()).to_vec();
        let kept: Vec<String> = disjoint(subnets.iter()).values().map(Subnet::to_string).collect();
        assert_eq!(kept, ["10.0.0.0/8", "fd00::/64"]);
    }

    fn outside(directory: &Directory, network: u8, source: &str) -> Vec<String> {
        let zones = Zones::new(directory);
        match zones.asker(&id(network), source.parse().unwrap()).unwrap().outside() {
            Outside::Closed => vec!["closed".to_owned()],
            Outside::Open(list) => list.iter().map(|upstream| upstream.ip().to_string()).collect(),
        }
    }

    #[test]
    fn upstreams_are_the_container_s_or_its_networks_or_the_host_s() {
        let mut directory = directory();
        assert_eq!(outside(&directory, 1, "10.89.1.2"), ["192.0.2.53"]);
        directory.networks[1].upstreams = vec!["192.0.2.2:53".parse().unwrap()];
        assert_eq!(outside(&directory, 1, "10.89.1.2"), ["192.0.2.2"], "of all its networks");
        assert_eq!(outside(&directory, 1, "10.89.1.99"), ["192.0.2.53"], "no member, so only this network");
        directory.members[0].upstreams = vec!["192.0.2.1:53".parse().unwrap(); 2];
        assert_eq!(outside(&directory, 1, "10.89.1.2"), ["192.0.2.1"]);
    }

    #[test]
    fn we_are_no_upstream_of_ours() {
        let mut directory = directory();
        directory.members[0].upstreams = vec!["10.89.2.1:53".parse().unwrap()];
        assert_eq!(outside(&directory, 1, "10.89.1.2"), ["192.0.2.53"]);
    }

    #[test]
    fn the_way_out_is_closed_for_who_is_only_on_internal_networks() {
        let mut directory = directory();
        assert_eq!(outside(&directory, 3, "10.89.3.2"), ["closed"]);
        assert_eq!(outside(&directory, 3, "10.89.3.99"), ["closed"]);
        directory.networks[2].upstreams = vec!["192.0.2.3:53".parse().unwrap()];
        assert_eq!(outside(&directory, 3, "10.89.3.2"), ["closed"], "with upstreams of its own too");
        directory.members[3].presences.push(presence(1, &["10.89.1.9"], &[]));
        assert_eq!(outside(&directory, 3, "10.89.3.2"), ["192.0.2.53"], "on another network too");
    }

    #[test]
    fn the_host_resolves_names_on_every_network() {
        let zones = Zones::new(&directory());
        let show = |name: &str| {
            let found = zones.resolve(&name.parse().unwrap());
            found.iter().map(|(network, ip)| format!("{network} {ip}")).collect::<Vec<_>>()
        };
        assert_eq!(show("vault"), ["net3 10.89.3.2"]);
        assert_eq!(show("Web.dns.podman"), ["net1 10.89.1.2", "net1 fd00:1::2", "net2 10.89.2.2", "net2 10.89.2.4"]);
    }
}
