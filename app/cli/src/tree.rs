//! All commands as one tree of clap's, made from [`COMMANDS`]: for shells that complete, and for manual pages.
//!
//! ```text
//!   COMMANDS: names, flags, "[options] CONTAINER [CONTAINER...]" ──> podwire ── network ── create ── --subnet …
//! ```
//!
//! What runs a command line is not this tree: of that, only the one command that is called is made.

use clap::ValueHint;
use clap::builder::{Arg, Command as Clap};

use crate::commands::{COMMANDS, NOUNS};
use crate::flags::{self, Entry};

/// `podwire` with all below it. `dress` is told of each argument: the command's name, and what stands there (a flag's
/// name, or the word of the usage line).
pub(crate) fn podwire(dress: &dyn Fn(&str, &str, Arg) -> Arg) -> Clap {
    let globals = flags::global_definitions();
    let root =
        Clap::new("podwire").about("Run containers and the networks between them").args(own(&globals, "", dress));
    NOUNS.iter().fold(with_commands(plain(root), "", dress), |root, (noun, about)| {
        root.subcommand(with_commands(plain(Clap::new(*noun).about(*about)), noun, dress))
    })
}

/// Adds the commands that belong to `noun`.
fn with_commands(clap: Clap, noun: &str, dress: &dyn Fn(&str, &str, Arg) -> Arg) -> Clap {
    let shown = COMMANDS.iter().filter(|entry| !entry.hidden);
    let named = shown.flat_map(|entry| entry.names.iter().map(move |name| (entry, *name)));
    named.fold(clap, |clap, (entry, name)| match name.rsplit_once(' ').unwrap_or(("", name)) {
        (of, word) if of == noun => clap.subcommand(command(entry, name, word, dress)),
        _ => clap,
    })
}

/// One command, called `word` here.
pub(crate) fn command(entry: &Entry, name: &str, word: &'static str, dress: &dyn Fn(&str, &str, Arg) -> Arg) -> Clap {
    let places = places(entry.usage).into_iter().map(|place| dress(name, &place.word, place.arg()));
    plain(Clap::new(word).about(entry.about)).args(own(&entry.definitions(), name, dress)).args(places)
}

fn plain(clap: Clap) -> Clap {
    clap.disable_help_flag(true).disable_version_flag(true).disable_help_subcommand(true)
}

/// The flags, without the definition's own places for words.
fn own(clap: &Clap, name: &str, dress: &dyn Fn(&str, &str, Arg) -> Arg) -> Vec<Arg> {
    let flags = clap.get_arguments().filter(|arg| !arg.is_positional() && !arg.is_hide_set());
    flags.map(|arg| dress(name, arg.get_long().unwrap_or_default(), arg.clone())).collect()
}

/// A place for words in a usage line.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    /// `CONTAINER`
    word: String,
    index: usize,
    optional: bool,
    many: bool,
}

impl Place {
    fn arg(&self) -> Arg {
        let arg = Arg::new(format!("{}-{}", self.word, self.index)).value_name(self.word.clone()).index(self.index);
        let arg = arg.required(!self.optional);
        let words = self.word.split('|');
        let arg = match self.word.contains('|') && words.clone().all(|word| word == word.to_lowercase()) {
            true => arg.value_parser(words.map(str::to_owned).collect::<Vec<_>>()),
            false => arg,
        };
        let hinted = ["PATH", "FILE", "DIR"].iter().any(|word| self.word.contains(word));
        let arg = if hinted { arg.value_hint(ValueHint::AnyPath) } else { arg };
        if self.many { arg.num_args(1..) } else { arg }
    }
}

/// `[options] CONTAINER [CONTAINER...]` → CONTAINER, many.
fn places(usage: &str) -> Vec<Place> {
    let mut places: Vec<Place> = Vec::new();
    for text in usage.split_whitespace().filter(|text| *text != "[options]") {
        // `[CONTAINER:]SRC_PATH` is a word, `[COMMAND` begins what may be left out.
        let optional = text.starts_with('[') && text[1..].find(']').is_none_or(|end| text[end + 1..].ends_with(']'));
        let bare = if optional { text.trim_matches(['[', ']']) } else { text.trim_end_matches(']') };
        let (word, many) = bare.strip_suffix("...").map_or((bare, false), |word| (word, true));
        match places.last_mut() {
            Some(last) if last.word == word => last.many = true,
            _ => {
                let index = places.len() + 1;
                places.push(Place { word: word.to_owned(), index, optional, many });
            }
        }
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_lines_say_what_stands_where() {
        let check = |usage: &str, expected: &[(&str, bool, bool)]| {
            let found = places(usage);
            let found: Vec<_> = found.iter().map(|p| (p.word.as_str(), p.optional, p.many)).collect();
            assert_eq!(found, expected, "{usage}");
        };
        check("[options]", &[]);
        check("[options] CONTAINER [CONTAINER...]", &[("CONTAINER", false, true)]);
        check(
            "[options] IMAGE [COMMAND [ARG...]]",
            &[("IMAGE", false, false), ("COMMAND", true, false), ("ARG", true, true)],
        );
        check("[options] [NETWORK...]", &[("NETWORK", true, true)]);
        check("bash|zsh|fish", &[("bash|zsh|fish", false, false)]);
        check(
            "[options] [CONTAINER:]SRC_PATH [CONTAINER:]DEST_PATH",
            &[("[CONTAINER:]SRC_PATH", false, false), ("[CONTAINER:]DEST_PATH", false, false)],
        );
    }

    #[test]
    fn the_tree_is_well_formed() {
        podwire(&|_, _, arg| arg).debug_assert();
    }
}
