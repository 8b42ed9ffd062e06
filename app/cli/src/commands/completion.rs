//! `podwire completion`: what makes a shell ask podwire how a command line goes on, and the answer.
//!
//! ```text
//!   source <(podwire completion bash)        then, at each TAB:  _PODWIRE_COMPLETE=bash podwire -- podwire stop w
//!                                                                  └─ flags and commands from the definitions, names
//!                                                                     from the store: web
//! ```

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::ValueHint;
use clap::builder::Arg;
use clap_complete::engine::{ArgValueCandidates, CompletionCandidate};
use clap_complete::env::{EnvCompleter, Shells};
use engine::{EngineOptions, Known, known};

use crate::flags::{self, Command};
use crate::global::{Podwire, locate, write};
use crate::outcome::{Failure, Outcome, plain};
use crate::tree;

#[derive(clap::Args)]
pub(crate) struct Completion {
    /// Write to this file instead of standard output
    #[arg(short, long, value_name = "string")]
    file: Option<PathBuf>,
    /// Without what commands and flags are for
    #[arg(long)]
    no_desc: bool,
    #[arg(hide = true)]
    arguments: Vec<String>,
}

/// Tells us that a shell asks, and which one: with descriptions, and without.
const ASKED: [&str; 2] = ["_PODWIRE_COMPLETE", "_PODWIRE_COMPLETE_BARE"];

/// The shells that the book speaks of.
const SHELLS: &[&str] = &["bash", "zsh", "fish"];

impl Command for Completion {
    fn run(self, podwire: &Podwire) -> Outcome {
        flags::exactly(1, &self.arguments)?;
        let name = &self.arguments[0];
        if name == "powershell" {
            return Err(Failure::new("completion for powershell is not supported by podwire: bash, zsh and fish are"));
        }
        let wrong = || Failure::new(format!("invalid argument {name:?} for \"podwire {}\"", podwire.command));
        let shell = shell(name).ok_or_else(wrong)?;
        let mut script = Vec::new();
        shell.write_registration(ASKED[usize::from(self.no_desc)], "podwire", "podwire", "podwire", &mut script)?;
        match &self.file {
            Some(path) => std::fs::write(path, script)
                .map_err(|e| Failure::new(format!("open {}: {}", path.display(), plain(&e))))?,
            None => write(&String::from_utf8_lossy(&script))?,
        }
        Ok(0)
    }
}

fn shell(name: &str) -> Option<&'static dyn EnvCompleter> {
    const BUILT_IN: Shells<'static> = Shells::builtins();
    SHELLS.contains(&name).then(|| BUILT_IN.completer(name)).flatten()
}

/// The answer to a shell that asks; `None` when none does.
pub(crate) fn answer(argv: &[OsString]) -> Option<Outcome> {
    let (asked, name) = ASKED.iter().find_map(|asked| Some((*asked, std::env::var(asked).ok()?)))?;
    let shell = shell(&name)?;
    let words: Vec<OsString> = argv.iter().skip_while(|word| *word != "--").skip(1).cloned().collect();
    let known = options(&words).map(|options| known(&options)).unwrap_or_default();
    let mut answer = Vec::new();
    let mut tree = tree::podwire(&|command, place, arg| dress(&known, command, place, arg));
    if asked == ASKED[1] {
        tree = undescribed(tree);
    }
    let here = std::env::current_dir().ok();
    // There is nobody to tell an error to: nothing is completed then.
    let _ = shell.write_complete(&mut tree, words, here.as_deref(), &mut answer);
    Some(write(&String::from_utf8_lossy(&answer)).map(|()| 0))
}

/// Of the store that the command line is about.
fn options(words: &[OsString]) -> Option<EngineOptions> {
    let value = |flag: &str| {
        let next = words.iter().skip_while(|word| *word != flag).nth(1).map(PathBuf::from);
        let joined = words.iter().find_map(|word| word.to_str()?.strip_prefix(flag)?.strip_prefix('='));
        next.or(joined.map(PathBuf::from))
    };
    let located = locate(value("--root").as_deref().map(Path::to_owned), value("--runroot")).ok()?;
    Some(EngineOptions { root: located.root, runroot: located.runroot, ..EngineOptions::default() })
}

fn undescribed(clap: clap::Command) -> clap::Command {
    let bare = clap.about(None::<&str>).mut_args(|arg| arg.help(None::<&str>));
    bare.mut_subcommands(undescribed)
}

/// Tells clap what may stand there.
fn dress(known: &Known, command: &str, place: &str, arg: Arg) -> Arg {
    let names = names(known, command, place);
    if !names.is_empty() {
        return arg.add(ArgValueCandidates::new(move || names.iter().map(CompletionCandidate::new).collect()));
    }
    match place {
        "root" | "runroot" | "tmpdir" | "network-config-dir" | "cidfile" | "pidfile" | "env-file" | "label-file"
        | "pod-id-file" | "authfile" | "cert-dir" | "output" | "input" | "file" => arg.value_hint(ValueHint::AnyPath),
        _ => arg,
    }
}

/// The names that may stand there.
fn names(known: &Known, command: &str, place: &str) -> Vec<String> {
    let words = |words: &str| words.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let containers = |running: Option<bool>| {
        let wanted = known.containers.iter().filter(|(_, runs)| running.is_none_or(|running| *runs == running));
        wanted.map(|(name, _)| name.clone()).collect::<Vec<_>>()
    };
    match place {
        "CONTAINER" => containers(match command.trim_start_matches("container ") {
            "start" => Some(false),
            "stop" | "kill" | "pause" | "exec" | "attach" | "top" | "port" => Some(true),
            _ => None,
        }),
        "POD|CONTAINER" => [known.pods.clone(), containers(None)].concat(),
        "volumes-from" => containers(None),
        "IMAGE" => known.images.clone(),
        "NETWORK" | "network" => known.networks.clone(),
        "POD" | "pod" => known.pods.clone(),
        "VOLUME" => known.volumes.clone(),
        "NAME" if command == "inspect" => [containers(None), known.images.clone(), known.networks.clone()].concat(),
        "format" => words("json"),
        "restart" => words("no always on-failure unless-stopped"),
        "pull" | "policy" => words("always missing newer never"),
        "log-level" => words("trace debug info warn error"),
        "log-driver" => words("k8s-file json-file none"),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complete(line: &str) -> Vec<String> {
        let known = Known {
            containers: vec![("web".to_owned(), true), ("old".to_owned(), false)],
            images: vec!["localhost/banner:latest".to_owned()],
            networks: vec!["podman".to_owned(), "shop".to_owned()],
            ..Known::default()
        };
        let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        let last = words.len() - 1;
        let mut tree = tree::podwire(&|command, place, arg| dress(&known, command, place, arg));
        let found = clap_complete::engine::complete(&mut tree, words, last, None).unwrap();
        found.iter().map(|candidate| candidate.get_value().to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn commands_flags_and_names_are_completed() {
        assert_eq!(complete("podwire netw"), ["network"]);
        assert_eq!(complete("podwire network cr"), ["create"]);
        assert_eq!(complete("podwire network create --sub"), ["--subnet"]);
        assert_eq!(complete("podwire run --network s"), ["shop"]);
        assert_eq!(complete("podwire run -d --network=s"), ["--network=shop"]);
        assert_eq!(complete("podwire run -it lo"), ["localhost/banner:latest"]);
        assert!(complete("podwire stop ").contains(&"web".to_owned()));
        assert!(!complete("podwire stop ").contains(&"old".to_owned()));
        assert!(complete("podwire container start ").contains(&"old".to_owned()));
        assert!(complete("podwire rm web ").contains(&"old".to_owned()));
        assert_eq!(complete("podwire completion b"), ["bash"]);
        assert!(complete("podwire ma").is_empty(), "a hidden command is not shown");
    }

    #[test]
    fn a_shell_gets_what_makes_it_ask() {
        for (name, says) in
            [("bash", "complete -o nospace"), ("zsh", "#compdef podwire"), ("fish", "--command podwire")]
        {
            let mut script = Vec::new();
            shell(name).unwrap().write_registration(ASKED[0], "podwire", "podwire", "podwire", &mut script).unwrap();
            let script = String::from_utf8(script).unwrap();
            assert!(script.contains(says) && script.contains("_PODWIRE_COMPLETE="), "{script}");
        }
        assert!(shell("powershell").is_none());
    }
}
