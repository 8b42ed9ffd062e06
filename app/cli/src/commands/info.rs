//! `podwire info`

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

/// YAML as Podman prints it: two spaces per level.
fn yaml(json: &Json, depth: usize, out: &mut String) {
    let pad = "  ".repeat(depth);
    match json {
        Json::Object(map) => map.iter().for_each(|(key, value)| {
            *out += &format!("{pad}{key}:");
            item(value, depth + 1, out);
        }),
        Json::Array(items) => items.iter().for_each(|value| {
            *out += &format!("{pad}-");
            item(value, depth + 1, out);
        }),
        scalar => *out += &format!("{pad}{}\n", plain(scalar)),
    }
}

fn item(value: &Json, depth: usize, out: &mut String) {
    let empty = match value {
        Json::Object(map) => map.is_empty().then_some("{}"),
        Json::Array(items) => items.is_empty().then_some("[]"),
        _ => None,
    };
    match (value, empty) {
        (_, Some(empty)) => *out += &format!(" {empty}\n"),
        (Json::Object(_) | Json::Array(_), None) => {
            out.push('\n');
            yaml(value, depth, out);
        }
        (scalar, None) => *out += &format!(" {}\n", plain(scalar)),
    }
}

/// A string is quoted where YAML would take it for something else.
fn plain(scalar: &Json) -> String {
    let Json::String(text) = scalar else { return scalar.to_string() };
    let safe = |c: char| c.is_alphanumeric() || matches!(c, '/' | '.' | '_' | '-' | ' ' | '+' | '(' | ')' | '~');
    let begins = text.starts_with(|c: char| c.is_alphanumeric() || matches!(c, '/' | '.'));
    let word = matches!(text.as_str(), "true" | "false" | "null" | "yes" | "no" | "on" | "off");
    let number = text.parse::<f64>().is_ok() || text.starts_with("0x") || text.starts_with("0o");
    match begins && !word && !number && text.chars().all(safe) && !text.ends_with(' ') {
        true => text.clone(),
        false => format!("{text:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn info_is_yaml() {
        let json = serde_json::json!({"host": {"arch": "amd64", "cpus": 2, "list": ["a"], "none": [], "n": "1", "v": "0.1.0"}, "x": true});
        let mut text = String::new();
        yaml(&json, 0, &mut text);
        assert_eq!(
            text,
            "host:\n  arch: amd64\n  cpus: 2\n  list:\n    - a\n  none: []\n  n: \"1\"\n  v: 0.1.0\nx: true\n"
        );
    }
}
