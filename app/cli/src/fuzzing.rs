//! Doors for fuzzers: whatever the text, these return.

use clap::FromArgMatches as _;
use engine::config::NetworkConfig;

use crate::container::ContainerFlags;
use crate::flags::global_clap;
use crate::global::{Global, Podwire};
use crate::template::{Template, Value};

/// Parses `text` as a template for `--format`, and renders it over `json`.
pub fn template(text: &str, json: &str) {
    let Ok(json) = serde_json::from_str(json) else { return };
    if let Ok(template) = Template::parse("fuzz", text, 0) {
        let _ = template.render(&Value::from_json(&json, &["Labels", "Networks"]), &mut String::new());
    }
}

/// Flags of `run` whose values have a grammar; none of them opens a file.
const FLAGS: [&str; 21] = [
    "--network",
    "--ip",
    "--ip6",
    "--mac-address",
    "--network-alias",
    "--publish",
    "--expose",
    "--add-host",
    "--dns",
    "--dns-search",
    "--dns-option",
    "--name",
    "--hostname",
    "--env",
    "--volume",
    "--tmpfs",
    "--label",
    "--annotation",
    "--entrypoint",
    "--cap-add",
    "--stop-timeout",
];

/// The network that `run` would give to a container. Each line is a flag and its value, with a space between; `None`
/// when it refuses.
pub fn run(lines: &str) -> Option<NetworkConfig> {
    let mut words = vec!["create"];
    for (flag, value) in lines.lines().filter_map(|line| line.split_once(' ')) {
        if FLAGS.contains(&flag) {
            words.extend([flag, value]);
        }
    }
    words.push("image");
    let entry = crate::commands::COMMANDS.iter().find(|entry| entry.names[0] == "create")?;
    let flags = ContainerFlags::from_arg_matches(&entry.clap().try_get_matches_from(words).ok()?).ok()?;
    let global = Global::from_arg_matches(&global_clap().try_get_matches_from(["podwire"]).ok()?).ok()?;
    let podwire = Podwire::where_nothing_is_set(global, "create");
    Some(flags.wish(&podwire).ok()?.config.network)
}
