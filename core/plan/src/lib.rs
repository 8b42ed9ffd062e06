//! desired + recorded + observed → ordered, undoable ops.
//!
//! ```text
//!   drivers ──> desired ─┐
//!   store ────> recorded ┼─> plan() ──> Plan [Op, Op, …] ──> host::apply ──> kernel
//!   host  ────> observed ┘                 │ Display: --dry-run
//!                                          └ undo(): the way back
//! ```
//!
//! **How it works.** An [`Object`] is one thing in the kernel that we can create; its [`Key`] says what
//! makes two objects the same one. [`plan()`] compares three sets of objects and returns the ops that
//! lead from what is observed to what is desired. What vanishes with a removed link, sandbox or ruleset has
//! no op: the plan lists it as implied, so that [`Plan::undo`] is exact. [`world::World`] is a model kernel
//! that refuses what the kernel refuses; the properties are tested against it (core/drivers/tests).
//!
//! **Invariants.** Pure. We remove only what our own Create made: what has room for a mark carries ours, of
//! this very store; anything else is recorded. Somebody else's object in the way is a [`Conflict`], never
//! overwritten. A second plan is empty. A sysctl is changed, but never removed and never a conflict.
//! The firewall ops of a plan stand together, so that they become one nf_tables transaction.
//!
//! **Limits.** Knows no network, container or netlink number. Plans only for the objects it is given: when the
//! host's forwarding is switched on again, links of networks outside the plan are left to the firewall.
//!
//! **Start reading** at [`object::Object`], then [`plan()`].

pub mod object;

pub use object::{
    Address, Bridge, Child, ChildKind, Element, Field, Key, Mark, Neighbour, Object, Place, Route, RouteKind, Ruleset,
    Sandbox, SandboxName, Sysctl, Table, Veth,
};
mod plan;
pub mod world;

pub use plan::{Conflict, Observed, Op, Plan, Seen, forgotten, plan};
