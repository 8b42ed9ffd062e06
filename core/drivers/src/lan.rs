//! What macvlan and ipvlan have in common: a link on a parent, made inside the sandbox.

use plan::{Child, ChildKind, Object, Place};

use crate::{Endpoint, NetworkWish, inside};

/// The link with its addresses and routes. Nothing of it passes a bridge of ours, so the firewall has no part in it,
/// and ports are open on the LAN as they are.
pub(crate) fn attachment(wish: &NetworkWish<'_>, endpoint: &Endpoint, kind: ChildKind) -> Vec<Object> {
    let child = Child {
        place: Place::Sandbox(endpoint.sandbox.clone()),
        name: endpoint.link.clone(),
        unfinished: endpoint.host_link.clone(),
        // Those that are up stay where they are, wherever the host's default route leads now.
        parent: endpoint.parent.as_ref().unwrap_or(&wish.link).clone(),
        kind,
        mtu: endpoint.mtu(wish),
        mark: endpoint.mark.clone(),
    };
    [Object::Child(child)].into_iter().chain(inside(wish, endpoint)).collect()
}
