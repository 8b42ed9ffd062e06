//! `--help`, in Podman's shape.

use clap::builder::{Arg, Command as Clap};

use crate::commands::{COMMANDS, NOUNS};
use crate::flags::{self, Entry};
use crate::global::write;
use crate::outcome::Outcome;

/// Help of one command.
pub(crate) fn command(name: &str, entry: &Entry) -> Outcome {
    let mut text = format!("{}\n\nUsage:\n  podwire {name} {}\n", entry.about, entry.usage);
    let aliases: Vec<String> = entry.names.iter().filter(|n| **n != name).map(|n| format!("podwire {n}")).collect();
    if !aliases.is_empty() {
        text += &format!("\nAliases:\n  {}\n", aliases.join(", "));
    }
    let options = options(&entry.clap());
    if !options.is_empty() {
        text += &format!("\nOptions:\n{options}");
    }
    text += "\nThe options that every command takes: podwire --help\n";
    print(&text)
}

/// Help of `podwire` (the empty noun), `podwire network` …
pub(crate) fn noun(noun: &str) -> Outcome {
    let about =
        NOUNS.iter().find(|(n, _)| *n == noun).map_or("Run containers and the networks between them", |(_, a)| a);
    let path = if noun.is_empty() { String::new() } else { format!("{noun} ") };
    let mut text = format!(
        "{about}\n\nUsage:\n  podwire {}[command]\n\nAvailable Commands:\n",
        if noun.is_empty() { "[options] " } else { &path }
    );
    let mut rows: Vec<(&str, &str)> = COMMANDS
        .iter()
        .filter(|entry| !entry.hidden)
        .flat_map(|entry| entry.names.iter().map(move |name| (*name, entry.about)))
        .filter_map(|(name, about)| Some((name.strip_prefix(&path)?, about)))
        .filter(|(name, _)| !name.contains(' '))
        .collect();
    if noun.is_empty() {
        rows.extend(NOUNS.iter().copied());
    }
    rows.sort_unstable();
    rows.iter().for_each(|(name, about)| text += &format!("  {name:<11} {about}\n"));
    if noun.is_empty() {
        text += &format!("\nOptions:\n{}", options(&flags::global_clap()));
    }
    print(&text)
}

fn print(text: &str) -> Outcome {
    write(text)?;
    Ok(0)
}

/// One line per flag, by name.
fn options(clap: &Clap) -> String {
    let mut rows: Vec<(String, String)> =
        clap.get_arguments().filter(|arg| !arg.is_positional() && !arg.is_hide_set()).map(row).collect();
    rows.sort_by(|a, b| a.0[6..].cmp(&b.0[6..]));
    let width = rows.iter().map(|(flag, _)| flag.chars().count()).max().unwrap_or(0);
    rows.iter().map(|(flag, about)| format!("{flag:<width$}   {about}\n")).collect()
}

fn row(arg: &Arg) -> (String, String) {
    let short = arg.get_short().map_or("    ".to_owned(), |s| format!("-{s}, "));
    let value = match arg.get_value_names().filter(|_| !flags::is_switch(arg)) {
        Some(names) => format!(" {}", names.join(" ")),
        None => String::new(),
    };
    let long = arg.get_long().unwrap_or_default();
    (format!("  {short}--{long}{value}"), arg.get_help().map(ToString::to_string).unwrap_or_default())
}
