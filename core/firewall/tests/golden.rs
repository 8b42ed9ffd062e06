//! The ruleset as text: what `--dry-run` stands for, and what a reviewer of a change reads.

#![allow(clippy::disallowed_methods, reason = "a test may read and rewrite its golden file")]

#[test]
fn the_ruleset_is_what_the_text_says() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/ruleset.txt");
    let rendered = podwire_firewall::rules().to_string();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(path, &rendered).unwrap();
    }
    let golden = std::fs::read_to_string(path).unwrap_or_default();
    assert!(rendered == golden, "UPDATE=1 cargo test -p podwire-firewall rewrites {path}; it renders as:\n{rendered}");
}
