//! `podwire info`

use std::collections::BTreeMap;

use serde_json::Value as Json;

use crate::flags::{self, Command};
use crate::formats;
use crate::global::{Podwire, say};
use crate::outcome::{Failure, Outcome};
use crate::template::Value;

#[derive(clap::Args)]
pub(crate) struct Info {
    /// Change the output format to JSON or a Go template
    #[arg(short, long, value_name = "string", default_value = "", hide_default_value = true)]
    format: String,
    #[arg(hide = true)]
    arguments: Vec<String>,
}

impl Command for Info {
    fn run(self, podwire: &Podwire) -> Outcome {
        flags::none(podwire, &self.arguments)?;
        let info = serde_json::to_value(podwire.engine()?.info()?).map_err(Failure::new)?;
        if !self.format.is_empty() {
            formats::object("info", &self.format, &Value::from_json(&info, &[]).capitalised())?;
            return Ok(0);
        }
        let mut text = String::new();
        yaml(&info, 0, &mut text);
        say(text.trim_end())?;
        Ok(0)
    }
}

/// YAML as Podman prints it: keys in the order of letters, two spaces per level, lists not further in than their key.
fn yaml(json: &Json, depth: usize, out: &mut String) {
    let pad = "  ".repeat(depth);
    match json {
        Json::Object(map) => {
            let sorted: BTreeMap<_, _> = map.iter().collect();
            for (key, value) in sorted {
                *out += &format!("{pad}{key}:");
                item(value, depth, out);
            }
        }
        Json::Array(items) => items.iter().for_each(|value| {
            let mut text = String::new();
            item(value, depth, &mut text);
            // An object's first key stands behind the dash.
            *out += &format!("{pad}- {}", text.trim_start());
        }),
        scalar => *out += &format!("{pad}{}\n", plain(scalar)),
    }
}

fn item(value: &Json, depth: usize, out: &mut String) {
    match value {
        Json::Object(map) if map.is_empty() => *out += " {}\n",
        Json::Array(items) if items.is_empty() => *out += " []\n",
        Json::Object(_) => {
            out.push('\n');
            yaml(value, depth + 1, out);
        }
        Json::Array(_) => {
            out.push('\n');
            yaml(value, depth, out);
        }
        Json::String(text) if text.contains('\n') => {
            let pad = "  ".repeat(depth + 1);
            *out += " |-\n";
            text.trim_end().lines().for_each(|line| *out += &format!("{pad}{line}\n"));
        }
        scalar => *out += &format!(" {}\n", plain(scalar)),
    }
}

/// A string is quoted where YAML would take it for something else: twice where it would be of another type.
fn plain(scalar: &Json) -> String {
    let Json::String(text) = scalar else { return scalar.to_string() };
    let word = matches!(
        text.to_ascii_lowercase().as_str(),
        "" | "true" | "false" | "null" | "yes" | "no" | "on" | "off" | "~"
    );
    if word || text.parse::<f64>().is_ok() || text.starts_with("0x") || text.starts_with("0o") {
        return format!("{text:?}");
    }
    let begins = text.starts_with(|c: char| "-?:,[]{}#&*!|>'\"%@` ".contains(c));
    let marks =
        text.contains(": ") || text.contains(" #") || text.ends_with([':', ' ']) || text.contains(char::is_control);
    if begins || marks { format!("'{}'", text.replace('\'', "''")) } else { text.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn info_is_yaml() {
        let json = serde_json::json!({
            "host": {
                "cpus": 2, "arch": "amd64", "list": ["a", "b"], "none": [], "n": "1", "v": "0.1.0", "runtime": "crun\nv1\n",
                "said": "version 2, commit: unknown", "at": "Thu Jan  1 00:00:00 1970",
            },
            "maps": [{ "size": 1, "id": 0 }],
            "x": true,
        });
        let mut text = String::new();
        yaml(&json, 0, &mut text);
        assert_eq!(
            text,
            "host:\n  arch: amd64\n  at: Thu Jan  1 00:00:00 1970\n  cpus: 2\n  list:\n  - a\n  - b\n  n: \"1\"\n  none: []\n  \
             runtime: |-\n    crun\n    v1\n  said: 'version 2, commit: unknown'\n  v: 0.1.0\nmaps:\n- id: 0\n  size: 1\nx: true\n"
        );
    }
}
