//! A door for fuzzers: whatever the bytes, this returns.

/// Reads `bytes` as what the kernel says of nf_tables, of links, addresses, routes and flows.
pub fn replies(bytes: &[u8]) {
    crate::firewall::read_anything(&netlink::fuzzing::replies(bytes));
}
