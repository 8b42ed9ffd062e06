//! What one message gets at once, if anything: a function of the zones, the asker and the bytes.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::message::{CLASS_IN, Code, Header, Kind, Query, Reply};
use crate::zones::{Addresses, Asker, Found, Outside, Zones};
use crate::{Client, Transport};

/// What becomes of a message.
pub(crate) enum Verdict<'m> {
    /// No answer at all.
    Drop(Dropped),
    /// Known here and now.
    Reply(Vec<u8>),
    /// For one of the upstreams, of which there is at least one.
    Forward { query: Query<'m>, upstreams: Arc<[SocketAddr]>, is_member: bool },
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dropped {
    /// From outside the network, or by a listener of no network.
    Stranger,
    /// Shorter than a header, or an answer: to answer these makes loops.
    Noise,
}

/// Judges `message` of `client`.
pub(crate) fn judge<'m>(zones: &Zones, client: &Client, message: &'m [u8]) -> Verdict<'m> {
    let Some(header) = Header::parse(message).filter(|header| !header.is_response() && client.address.port() != 0)
    else {
        return Verdict::Drop(Dropped::Noise);
    };
    let Some(asker) = zones.asker(&client.network, client.address.ip().to_canonical()) else {
        return Verdict::Drop(Dropped::Stranger);
    };
    if header.opcode() != 0 {
        return Verdict::Reply(Reply::bare(header, Code::NotImp));
    }
    let Ok(query) = Query::parse(header, message) else {
        return Verdict::Reply(Reply::bare(header, Code::FormErr));
    };
    let transport = client.via.transport();
    match refusal(&query) {
        Some(code) => Verdict::Reply(error(&query, code, transport)),
        None => look_up(&asker, query, transport),
    }
}

/// An answer that holds nothing but a code.
pub(crate) fn error(query: &Query<'_>, code: Code, transport: Transport) -> Vec<u8> {
    Reply::new(query, code, transport).finish()
}

/// What is not served, whatever the name.
fn refusal(query: &Query<'_>) -> Option<Code> {
    if query.edns.is_some_and(|edns| edns.version > 0) {
        return Some(Code::BadVers);
    }
    let transfer = matches!(query.question.kind, Kind::AXFR | Kind::IXFR);
    (transfer || query.question.class != CLASS_IN).then_some(Code::Refused)
}

fn look_up<'m>(asker: &Asker<'_>, query: Query<'m>, transport: Transport) -> Verdict<'m> {
    let reply = |code| Reply::new(&query, code, transport).authoritative();
    let kind = query.question.kind;
    Verdict::Reply(match asker.find(query.question.name) {
        Found::Addresses { addresses, apex } => addressed(reply(Code::NoError), &addresses, apex, &query),
        Found::Names { names, .. } if matches!(kind, Kind::PTR | Kind::ANY) => {
            let mut reply = reply(Code::NoError);
            names.iter().for_each(|name| reply.ptr(name));
            reply.finish()
        }
        Found::Apex if matches!(kind, Kind::SOA | Kind::ANY) => {
            let mut reply = reply(Code::NoError);
            reply.soa_asked(0);
            reply.finish()
        }
        Found::Apex => denial(reply(Code::NoError), 0),
        Found::Names { apex, .. } | Found::Empty { apex } => denial(reply(Code::NoError), apex),
        Found::Absent { apex } => denial(reply(Code::NxDomain), apex),
        Found::Outside => return outside(asker, query, transport),
    })
}

/// The addresses that were asked for; one kind of them for ANY (RFC 8482); none for any other type.
fn addressed(mut reply: Reply, addresses: &Addresses, apex: usize, query: &Query<'_>) -> Vec<u8> {
    // The client's own id turns the order, so that those who take the first take turns.
    let turn = usize::from(query.header.id);
    match query.question.kind {
        Kind::A | Kind::ANY if !addresses.v4.is_empty() => turned(&addresses.v4, turn).for_each(|&ip| reply.a(ip)),
        Kind::AAAA | Kind::ANY if !addresses.v6.is_empty() => {
            turned(&addresses.v6, turn).for_each(|&ip| reply.aaaa(ip))
        }
        _ => return denial(reply, apex),
    }
    reply.finish()
}

/// `list`, which isn't empty, from its `turn`th on and round.
fn turned<T>(list: &[T], turn: usize) -> impl Iterator<Item = &T> {
    let (before, from) = list.split_at(turn % list.len());
    from.iter().chain(before)
}

fn denial(mut reply: Reply, apex: usize) -> Vec<u8> {
    reply.soa_denial(apex);
    reply.finish()
}

/// NXDOMAIN without a way out: musl waits in vain after REFUSED, and for this asker there is no such name. Without
/// SOA, so that nobody remembers it beyond the day a network is connected.
fn outside<'m>(asker: &Asker<'_>, query: Query<'m>, transport: Transport) -> Verdict<'m> {
    match asker.outside() {
        Outside::Closed => Verdict::Reply(error(&query, Code::NxDomain, transport)),
        Outside::Open(upstreams) if upstreams.is_empty() => Verdict::Reply(error(&query, Code::ServFail, transport)),
        Outside::Open(upstreams) => {
            Verdict::Forward { query, upstreams: Arc::clone(upstreams), is_member: asker.is_member }
        }
    }
}
