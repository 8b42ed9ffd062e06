//! Which ids a container has: from what a user asked for to the maps of a user namespace.
//!
//! ```text
//!   --uidmap +2000:@1000     ids of the host that are ours ─┐
//!   --subuidname web         /etc/subuid ───────────────────┼──> 0 1 2000 · 2000 0 1 · 2001 2001 63536
//!   --userns auto            what no other container has ───┘
//! ```
//!
//! *Inside* is the container; *outside* is podwire's own user namespace: the host's for root, that of the holder
//! for an ordinary user (Podman calls its ids intermediate). Pure; the rules are those of podman-run(1), `--uidmap`.

pub use linux::userns::IdRange;
use linux::userns::{IdMaps, Subordinate};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// One `--uidmap` or `--gidmap`: `[+ug]INSIDE:[@]OUTSIDE[:COUNT]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdMapWish {
    /// What is mapped.
    pub range: IdRange,
    /// `@`: the ids outside are those of the host.
    pub of_host: bool,
    /// `+`: takes the place of what it overlaps.
    pub extends: bool,
    /// `u` or neither: it is for users.
    pub users: bool,
    /// `g` or neither: it is for groups.
    pub groups: bool,
}

/// Reads all `--uidmap` (`setting` is `UID`) or `--gidmap` (`GID`).
pub fn parse(setting: &str, texts: &[String]) -> Result<Vec<IdMapWish>> {
    let malformed = || {
        let shown = texts.iter().map(|text| format!("{text:?}")).collect::<Vec<_>>().join(" ");
        Error::usage(format!(
            "initializing ID mappings: {setting} setting is malformed expected [\"[+ug]uint32:[@]uint32[:uint32]\"] : [{shown}]"
        ))
    };
    let mut wishes = Vec::new();
    for text in texts.iter().filter(|text| !text.is_empty()) {
        let mut fields: Vec<&str> = text.split(':').collect();
        if fields.len() == 2 {
            fields.push("1");
        }
        let (triples, []) = fields.as_chunks::<3>() else { return Err(malformed()) };
        for triple in triples {
            wishes.push(one(triple).ok_or_else(malformed)?);
        }
    }
    Ok(wishes)
}

fn one([inside, outside, count]: &[&str; 3]) -> Option<IdMapWish> {
    let number = inside.trim_start_matches(['+', 'u', 'g']);
    let flags = &inside[..inside.len() - number.len()];
    let of_host = outside.strip_prefix('@');
    let range = IdRange {
        inside: number.parse().ok()?,
        outside: of_host.unwrap_or(outside).parse().ok()?,
        count: count.parse().ok()?,
    };
    let (users, groups) = (flags.contains('u'), flags.contains('g'));
    let both = !users && !groups;
    let wish = IdMapWish {
        range,
        of_host: of_host.is_some(),
        extends: flags.contains('+'),
        users: users || both,
        groups: groups || both,
    };
    // Beyond 32 bits there are no ids.
    (range.inside.checked_add(range.count).is_some() && range.outside.checked_add(range.count).is_some())
        .then_some(wish)
}

/// The map that these wishes make, where podwire's own namespace has the ids of `parent`. `fill`: what is only
/// extended is then given all of `parent` that is left, as for an ordinary user.
pub(crate) fn combine(wishes: &[IdMapWish], parent: &[IdRange], fill: bool) -> Result<Vec<IdRange>> {
    let (mut map, mut filled) = (Vec::new(), false);
    for wish in wishes {
        let ranges = if wish.of_host { of_host(wish.range, parent)? } else { vec![wish.range] };
        for range in ranges.into_iter().filter(|range| range.count > 0) {
            if wish.extends {
                filled |= fill && map.is_empty();
                map = map.into_iter().flat_map(|known| without(known, range)).collect();
            }
            map.push(range);
        }
    }
    if filled {
        map.extend(left_over(&map, total(parent)));
    }
    checked(map)
}

/// In the order of the ids inside, neighbours joined; each id once.
fn checked(mut map: Vec<IdRange>) -> Result<Vec<IdRange>> {
    map.sort_by_key(|range| range.inside);
    let overlap = |a: (u32, u32), b: (u32, u32)| a.0 < b.0 + b.1 && b.0 < a.0 + a.1;
    for (n, range) in map.iter().enumerate() {
        let clash = map[..n].iter().any(|other| {
            overlap((range.inside, range.count), (other.inside, other.count))
                || overlap((range.outside, range.count), (other.outside, other.count))
        });
        if clash {
            return Err(Error::usage(format!(
                "the specified UID and/or GID mapping {}:{}:{} conflicts with other mappings: invalid mappings specified",
                range.inside, range.outside, range.count
            )));
        }
    }
    let mut joined: Vec<IdRange> = Vec::new();
    for range in map {
        match joined.last_mut() {
            Some(last) if last.inside + last.count == range.inside && last.outside + last.count == range.outside => {
                last.count += range.count;
            }
            _ => joined.push(range),
        }
    }
    Ok(joined)
}

/// What the host calls `range.outside`, as our own namespace calls it.
fn of_host(range: IdRange, parent: &[IdRange]) -> Result<Vec<IdRange>> {
    let mut found = Vec::new();
    for ours in parent {
        let first = range.outside.max(ours.outside);
        let end = (range.outside + range.count).min(ours.outside.saturating_add(ours.count));
        if first < end {
            found.push(IdRange {
                inside: range.inside + (first - range.outside),
                outside: ours.inside + (first - ours.outside),
                count: end - first,
            });
        }
    }
    if total(&found) != range.count {
        return Err(Error::usage(format!(
            "the ids {} to {} of the host are not all podwire's to give: check /etc/subuid and /etc/subgid",
            range.outside,
            range.outside + range.count - 1
        )));
    }
    Ok(found)
}

/// What is left of `known` when `new` takes its ids, inside and outside.
fn without(known: IdRange, new: IdRange) -> Vec<IdRange> {
    let outside_of = |range: IdRange, start: u32, first: u32, count: u32| {
        let cut = |from: u32, to: u32| IdRange {
            inside: range.inside + from,
            outside: range.outside + from,
            count: to - from,
        };
        // Where the taken ids begin and end, counted from the beginning of the range.
        let begin = first.saturating_sub(start).min(range.count);
        let end = (first.saturating_add(count)).saturating_sub(start).min(range.count);
        if begin >= end { vec![range] } else { vec![cut(0, begin), cut(end, range.count)] }
    };
    let pieces = outside_of(known, known.inside, new.inside, new.count);
    let pieces = pieces.into_iter().flat_map(|range| outside_of(range, range.outside, new.outside, new.count));
    pieces.filter(|range| range.count > 0).collect()
}

/// Maps the ids below `total` that are not in `map` to the ids inside that are not either.
fn left_over(map: &[IdRange], total: u32) -> Vec<IdRange> {
    let taken: Vec<Span> = map.iter().map(|range| (range.outside, range.count)).collect();
    let mapped: Vec<Span> = map.iter().map(|range| (range.inside, range.count)).collect();
    pair(&minus(&[(0, u32::MAX)], &mapped), &minus(&[(0, total)], &taken))
}

/// How many ids a map has.
pub(crate) fn total(map: &[IdRange]) -> u32 {
    map.iter().fold(0, |sum, range| sum.saturating_add(range.count))
}

/// First id and number.
type Span = Subordinate;

/// What is in `all` and in none of `taken`, in order.
fn minus(all: &[Span], taken: &[Span]) -> Vec<Span> {
    let mut left = all.to_vec();
    for &(first, count) in taken {
        let end = first.saturating_add(count);
        left = left
            .into_iter()
            .flat_map(|(from, n)| {
                let to = from.saturating_add(n);
                [(from, first.clamp(from, to) - from), (end.clamp(from, to), to - end.clamp(from, to))]
            })
            .filter(|(_, n)| *n > 0)
            .collect();
    }
    left.sort_unstable();
    left
}

/// One id of each after the other, until one side has no more.
fn pair(inside: &[Span], outside: &[Span]) -> Vec<IdRange> {
    let (mut map, mut outside) = (Vec::new(), outside.iter().copied());
    let mut rest = outside.next();
    for &(mut first, mut count) in inside {
        while let Some((from, n)) = rest.filter(|_| count > 0) {
            let both = n.min(count);
            map.push(IdRange { inside: first, outside: from, count: both });
            (first, count) = (first + both, count - both);
            rest = if n > both { Some((from + both, n - both)) } else { outside.next() };
        }
    }
    map
}

/// `--userns keep-id`: our own root's id is `own` inside, the others are around it; `total` ids are ours.
pub(crate) fn keep(own: u32, total: u32, size: Option<u32>) -> Vec<IdRange> {
    // Beside our own.
    let others = size.map_or(total, |size| size.min(total)).saturating_sub(1);
    let below = IdRange { inside: 0, outside: 1, count: own.min(others) };
    let me = IdRange { inside: own, outside: 0, count: 1 };
    let above =
        IdRange { inside: own.saturating_add(1), outside: own.saturating_add(1), count: others.saturating_sub(own) };
    [below, me, above].into_iter().filter(|range| range.count > 0).collect()
}

/// `--userns nomap`: all but our own root's.
pub(crate) fn others(total: u32) -> Vec<IdRange> {
    let range = IdRange { inside: 0, outside: 1, count: total.saturating_sub(1) };
    if range.count > 0 { vec![range] } else { Vec::new() }
}

/// What `--userns auto` asks for.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Auto {
    /// How many ids inside, from 0.
    pub(crate) size: u32,
    /// Of these the ones that are mapped in a way that was asked for.
    pub(crate) fixed: IdMaps,
}

impl Auto {
    /// Chooses from `pool`, without what other containers' maps have.
    pub(crate) fn choose(&self, pool: &Pool, others: &[&IdMaps]) -> Result<IdMaps> {
        let choose = |fixed: &[IdRange], pool: &[Span], of: fn(&IdMaps) -> &Vec<IdRange>| {
            let outside = |range: &IdRange| (range.outside, range.count);
            let taken: Vec<Span> = others.iter().flat_map(|maps| of(maps)).chain(fixed).map(outside).collect();
            let fixed_inside: Vec<Span> = fixed.iter().map(|range| (range.inside, range.count)).collect();
            let wanted = minus(&[(0, self.size)], &fixed_inside);
            let chosen = pair(&wanted, &minus(pool, &taken));
            if total(&chosen) < wanted.iter().map(|(_, count)| count).sum() {
                return Err(Error::usage("creating container storage: could not find enough available IDs"));
            }
            checked([&chosen[..], fixed].concat())
        };
        Ok(IdMaps {
            uids: choose(&self.fixed.uids, &pool.uids, |maps| &maps.uids)?,
            gids: choose(&self.fixed.gids, &pool.gids, |maps| &maps.gids)?,
        })
    }
}

/// The ids that `--userns auto` gives.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    pub(crate) uids: Vec<Span>,
    pub(crate) gids: Vec<Span>,
}

/// What `id` inside is outside.
pub(crate) fn outside(map: &[IdRange], id: u32) -> Option<u32> {
    map.iter().find_map(|range| {
        let n = id.checked_sub(range.inside).filter(|n| *n < range.count)?;
        Some(range.outside + n)
    })
}

/// Has `parent`, our own namespace, all the ids that `map` uses?
pub(crate) fn check_ours(map: &[IdRange], parent: &[IdRange]) -> Result<()> {
    let ours: Vec<Span> = parent.iter().map(|range| (range.inside, range.count)).collect();
    match map.iter().find(|range| !minus(&[(range.outside, range.count)], &ours).is_empty()) {
        None => Ok(()),
        Some(range) => Err(Error::usage(format!(
            "the mapping {}:{}:{} uses ids that podwire has not: it has {}. Check /etc/subuid and /etc/subgid",
            range.inside,
            range.outside,
            range.count,
            total(parent)
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Those of user 1000 with a usual range.
    const PARENT: [IdRange; 2] =
        [IdRange { inside: 0, outside: 1000, count: 1 }, IdRange { inside: 1, outside: 100_000, count: 65536 }];

    fn shown(map: &[IdRange]) -> String {
        map.iter().map(|r| format!("{}:{}:{}", r.inside, r.outside, r.count)).collect::<Vec<_>>().join(" ")
    }

    #[track_caller]
    fn check(texts: &str, expected: &str) {
        let texts: Vec<String> = texts.split(' ').map(str::to_owned).collect();
        let said = match parse("UID", &texts).and_then(|wishes| combine(&wishes, &PARENT, true)) {
            Ok(map) => shown(&map),
            Err(error) => error.message,
        };
        assert_eq!(said, expected, "{texts:?}");
    }

    #[test]
    fn maps_are_triples_with_flags() {
        check("0:1:10", "0:1:10");
        check("5:5 0:1:3:7:8:1", "0:1:3 5:5:1 7:8:1");
        check("ug0:1:3 3:4:3", "0:1:6");
        let malformed =
            "initializing ID mappings: UID setting is malformed expected [\"[+ug]uint32:[@]uint32[:uint32]\"] : ";
        for text in ["0", "x:1:1", "0:1:1:2", "0:a:1", "-1:1:1", "4294967295:0:2"] {
            check(text, &format!("{malformed}[{text:?}]"));
        }
        check(
            "0:0:70 5:500:5",
            "the specified UID and/or GID mapping 5:500:5 conflicts with other mappings: invalid mappings specified",
        );
    }

    #[test]
    fn ids_of_the_host_are_found_in_our_own_namespace() {
        check("7:@1000", "7:0:1");
        check("0:@100005:10", "0:6:10");
        check("0:@1:1", "the ids 1 to 1 of the host are not all podwire's to give: check /etc/subuid and /etc/subgid");
    }

    #[test]
    fn what_extends_takes_its_ids_from_the_rest() {
        // As in Podman's manual, for somebody with 65,536 subordinate ids.
        check("+2000:0:1", "0:1:2000 2000:0:1 2001:2001:63536");
        check("0:0:10 +3:20:2", "0:0:3 3:20:2 5:5:5");
        check("0:0:10 +3:5:1", "0:0:3 3:5:1 4:4:1 6:6:4");
    }

    #[test]
    fn keep_id_puts_ones_own_id_in_its_place() {
        assert_eq!(shown(&keep(1000, 65537, None)), "0:1:1000 1000:0:1 1001:1001:64536");
        assert_eq!(shown(&keep(0, 65537, None)), "0:0:1 1:1:65536");
        assert_eq!(shown(&keep(200_000, 65537, None)), "0:1:65536 200000:0:1");
        assert_eq!(shown(&keep(1000, 1, None)), "1000:0:1");
        assert_eq!(shown(&keep(10, 65537, Some(20))), "0:1:10 10:0:1 11:11:9");
        assert_eq!(shown(&others(65537)), "0:1:65536");
        assert_eq!(shown(&others(1)), "");
    }

    #[test]
    fn auto_gives_ids_that_nobody_else_has() {
        let pool = Pool { uids: vec![(1, 3000)], gids: vec![(1, 500), (1000, 5000)] };
        let auto = Auto { size: 1000, ..Auto::default() };
        let first = auto.choose(&pool, &[]).unwrap();
        assert_eq!(
            (shown(&first.uids), shown(&first.gids)),
            ("0:1:1000".to_owned(), "0:1:500 500:1000:500".to_owned())
        );
        let second = auto.choose(&pool, &[&first]).unwrap();
        assert_eq!(shown(&second.uids), "0:1001:1000");
        let fixed = IdMaps { uids: vec![IdRange { inside: 5, outside: 1, count: 2 }], gids: Vec::new() };
        let third = Auto { size: 10, fixed }.choose(&pool, &[]).unwrap();
        assert_eq!(shown(&third.uids), "0:3:5 5:1:2 7:8:3");
        let none = Auto { size: 1001, ..Auto::default() }.choose(&pool, &[&first, &second]).unwrap_err();
        assert_eq!(none.message, "creating container storage: could not find enough available IDs");
    }

    #[test]
    fn an_id_inside_is_another_outside() {
        let map = keep(1000, 65537, None);
        assert_eq!([0, 1000, 1001, 70000].map(|id| outside(&map, id)), [Some(1), Some(0), Some(1001), None]);
        assert!(check_ours(&map, &PARENT).is_ok());
        assert!(check_ours(&[IdRange { inside: 0, outside: 65530, count: 10 }], &PARENT).is_err());
    }
}
