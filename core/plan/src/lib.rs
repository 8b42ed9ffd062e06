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
//! lead from what is observed to what is desired. [`world::World`] is a model kernel that refuses what
//! the kernel refuses; the properties are tested against it.
//!
//! **Invariants.** Pure. We remove only what our own Create made (recorded, or carrying our mark);
//! somebody else's object in the way is a [`Conflict`], never overwritten. A second plan is empty.
//! The firewall ops of a plan stand together, so that they become one nf_tables transaction.
//!
//! **Limits.** Knows no network, container or netlink number.
//!
//! **Start reading** at [`object::Object`], then [`plan()`].

pub mod object;

pub use object::{
    Address, Bridge, Element, Field, Key, Mark, Object, Place, Route, RouteKind, Ruleset, Sandbox, SandboxName, Sysctl,
    Table, Veth,
};
mod plan;
pub mod world;

pub use plan::{Conflict, Observed, Op, Plan, Seen, plan};
