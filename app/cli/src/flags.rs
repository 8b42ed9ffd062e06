//! clap, speaking as Podman's flag parser (spf13/pflag) does.
//!
//! ```text
//!   ["podwire", "--root", "/x", "run", "-it", "web"] ──route──> (Command, globals + arguments)
//!        ──clap, with the rules of pflag──> the command's own struct ──> run
//! ```
//!
//! Only the one command that is called is built. Values may begin with `-`, flags may be repeated (the last
//! one counts), switches take `=false`, and every error is in Podman's words with exit code 125.

use std::ffi::OsString;

use clap::builder::{Arg, ArgAction, Command as Clap};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{ArgMatches, Args, FromArgMatches};

use crate::commands::{COMMANDS, NOUNS};
use crate::conf::Conf;
use crate::global::{Global, Podwire};
use crate::outcome::{Failure, Outcome};
use crate::{help, unsupported};

/// One line of [`COMMANDS`].
pub(crate) struct Entry {
    /// All its names: `ps`, `container ls` … The first is shown in help and errors.
    pub(crate) names: &'static [&'static str],
    /// One sentence.
    pub(crate) about: &'static str,
    /// What follows the name in the usage line.
    pub(crate) usage: &'static str,
    /// Not in lists of commands: for those who build packages of podwire.
    pub(crate) hidden: bool,
    arguments: fn(Clap) -> Clap,
    run: fn(&ArgMatches, &Podwire) -> Outcome,
}

/// A command: its arguments are the struct's fields.
pub(crate) trait Command: Args + FromArgMatches {
    fn run(self, podwire: &Podwire) -> Outcome;
}

impl Entry {
    pub(crate) const fn new<C: Command>(
        names: &'static [&'static str],
        about: &'static str,
        usage: &'static str,
    ) -> Self {
        Self {
            names,
            about,
            usage,
            hidden: false,
            arguments: C::augment_args,
            run: |matches, podwire| match C::from_arg_matches(matches) {
                Ok(command) => command.run(podwire),
                Err(error) => Err(Failure::new(error)),
            },
        }
    }

    /// One that lists of commands leave out.
    pub(crate) const fn hidden<C: Command>(
        names: &'static [&'static str],
        about: &'static str,
        usage: &'static str,
    ) -> Self {
        Self { hidden: true, ..Self::new::<C>(names, about, usage) }
    }

    /// Its own flags as they are written down, before [`as_pflag`].
    pub(crate) fn definitions(&self) -> Clap {
        (self.arguments)(Clap::new(self.names[0]))
    }

    /// The command with its own flags only.
    pub(crate) fn clap(&self) -> Clap {
        as_pflag(self.definitions())
    }

    fn clap_with_globals(&self) -> Clap {
        global_clap().get_arguments().fold(self.clap(), |clap, global| clap.arg(global.clone()))
    }
}

/// The flags that every command takes.
pub(crate) fn global_clap() -> Clap {
    as_pflag(global_definitions())
}

/// As they are written down.
pub(crate) fn global_definitions() -> Clap {
    Global::augment_args(Clap::new("podwire"))
}

/// pflag's rules: values may begin with `-`, switches take `=false`.
fn as_pflag(clap: Clap) -> Clap {
    clap.disable_help_flag(true).disable_version_flag(true).args_override_self(true).mut_args(|arg| {
        if arg.is_positional() {
            return arg;
        }
        match arg.get_action() {
            ArgAction::SetTrue => arg
                .action(ArgAction::Set)
                .num_args(0..=1)
                .require_equals(true)
                .default_missing_value("true")
                .default_value("false")
                .value_parser(switch),
            _ => arg.allow_hyphen_values(true),
        }
    })
}

/// Go's `strconv.ParseBool`.
pub(crate) fn switch(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        _ => Err(format!("strconv.ParseBool: parsing {text:?}: invalid syntax")),
    }
}

/// Go's `strconv.ParseUint`, as far as 32 bits.
pub(crate) fn unsigned(text: &str) -> Result<u32, String> {
    integer(text, "ParseUint")
}

/// Go's `strconv.ParseInt`, as far as 64 bits.
pub(crate) fn signed(text: &str) -> Result<i64, String> {
    integer(text, "ParseInt")
}

/// How long to wait before a kill, in seconds; a negative number is for ever.
pub(crate) fn patience(text: &str) -> Result<u32, String> {
    let seconds: i64 = integer(text, "ParseInt")?;
    Ok(if seconds < 0 { u32::MAX } else { seconds.try_into().unwrap_or(u32::MAX) })
}

fn integer<T: std::str::FromStr<Err = std::num::ParseIntError>>(text: &str, function: &str) -> Result<T, String> {
    use std::num::IntErrorKind::{NegOverflow, PosOverflow};
    text.parse().map_err(|e: std::num::ParseIntError| {
        let what = if matches!(e.kind(), PosOverflow | NegOverflow) { "value out of range" } else { "invalid syntax" };
        format!("strconv.{function}: parsing {text:?}: {what}")
    })
}

/// The values of a flag that pflag calls `strings`: each may be a comma-separated list, in CSV's quotes.
pub(crate) fn strings(values: &[String]) -> Vec<String> {
    values.iter().filter(|v| !v.is_empty()).flat_map(|v| csv(v)).collect()
}

fn csv(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        let last = fields.len() - 1;
        match c {
            '"' if !quoted && fields[last].is_empty() => quoted = true,
            '"' if quoted && chars.next_if_eq(&'"').is_some() => fields[last].push('"'),
            '"' if quoted => quoted = false,
            ',' if !quoted => fields.push(String::new()),
            c => fields[last].push(c),
        }
    }
    fields
}

const HELP: &str = "help";

/// Finds the command, parses its arguments, runs it.
pub(crate) fn run(argv: Vec<OsString>) -> Outcome {
    let argv = utf8(argv)?;
    let mut route = route(&argv[1..])?;
    if route.words == HELP {
        // `podwire help network ls` is `podwire network ls --help`.
        let words = std::mem::take(&mut route.arguments);
        route = self::route(&words)?;
        route.arguments = vec!["--help".to_owned()];
    }
    let Some(entry) = route.entry else {
        return run_noun(&route);
    };
    if !route.arguments.iter().any(|arg| arg == "--help") {
        let defaults = Conf::read()?.flags(entry.names[0], &route.arguments);
        route.arguments.splice(0..0, defaults);
    }
    let name = entry.names.iter().find(|n| **n == route.words).copied().unwrap_or(entry.names[0]);
    let clap = entry.clap_with_globals();
    let line = std::iter::once("podwire").chain(route.arguments.iter().map(String::as_str));
    let matches = match clap.clone().try_get_matches_from(line) {
        Ok(matches) => matches,
        Err(error) => return parse_failure(&error, &clap, name, &route.arguments, entry),
    };
    let global = Global::from_arg_matches(&matches).map_err(Failure::new)?;
    if global.help {
        return help::command(name, entry);
    }
    (entry.run)(&matches, &Podwire::new(global, argv, name)?)
}

/// Understands a command line as [`run`] does, up to where the command begins; the error is what would be said.
pub(crate) fn understand(args: &[String]) -> Result<(), Failure> {
    let route = route(args)?;
    let Some(entry) = route.entry else { return Ok(()) };
    let clap = entry.clap_with_globals();
    let line = std::iter::once("podwire").chain(route.arguments.iter().map(String::as_str));
    match clap.clone().try_get_matches_from(line) {
        Err(error) if !is_help(&error) => Err(refused(&error, &clap, &route.words, &route.arguments, entry)),
        _ => Ok(()),
    }
}

fn utf8(argv: Vec<OsString>) -> Result<Vec<String>, Failure> {
    let text =
        |arg: OsString| arg.into_string().map_err(|arg| Failure::new(format!("argument {arg:?} is not valid UTF-8")));
    argv.into_iter().map(text).collect()
}

/// Which command was called, and with what.
struct Route {
    entry: Option<&'static Entry>,
    /// The words of its name as typed, or of the noun alone.
    words: String,
    /// All but these words.
    arguments: Vec<String>,
}

/// Takes the words of the command's name out of the arguments; flags of ours may stand before and between them.
fn route(args: &[String]) -> Result<Route, Failure> {
    let globals = global_clap();
    let mut route = Route { entry: None, words: String::new(), arguments: Vec::new() };
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        if arg.starts_with('-') && arg.len() > 1 {
            known_flag(&globals, arg, &route.words)?;
            route.arguments.push(arg.clone());
            if takes_next(&globals, arg) {
                route.arguments.extend(rest.next().cloned());
            }
            continue;
        }
        // As Podman, whose version is told whatever follows.
        if route.arguments.iter().any(|arg| arg == "--version" || arg == "-v") {
            return Ok(route);
        }
        let words = if route.words.is_empty() { arg.clone() } else { format!("{} {arg}", route.words) };
        if let Some(entry) = COMMANDS.iter().find(|entry| entry.names.contains(&words.as_str())) {
            route.entry = Some(entry);
            route.words = words;
            route.arguments.extend(rest.cloned());
            return Ok(route);
        }
        if words == HELP {
            route.words = words;
            route.arguments.extend(rest.cloned());
            return Ok(route);
        }
        if !NOUNS.iter().any(|(noun, _)| *noun == words) {
            return Err(unknown_command(&route.words, &words));
        }
        route.words = words;
    }
    Ok(route)
}

/// Before the command only flags of ours may stand; of another one we could not say whether it takes a value.
fn known_flag(globals: &Clap, flag: &str, words: &str) -> Result<(), Failure> {
    let name = flag.split('=').next().unwrap_or(flag);
    let ours = name.strip_prefix("--").is_some_and(|name| globals.get_arguments().any(|arg| is_called(arg, name)));
    if ours || matches!(name, "-h" | "-v" | "--version") {
        return Ok(());
    }
    if let Some(flag) = unsupported::flag("", name) {
        return Err(Failure::new(format_args!("{flag} is not supported by podwire yet")));
    }
    Err(usage(
        words,
        match cluster(name).and_then(|letters| letters.chars().next()) {
            Some(letter) => format!("unknown shorthand flag: '{letter}' in {flag}"),
            None => format!("unknown flag: {name}"),
        },
    ))
}

/// Is the next argument this flag's value?
fn takes_next(clap: &Clap, flag: &str) -> bool {
    let long = |arg: &Arg| flag.strip_prefix("--").is_some_and(|name| is_called(arg, name));
    clap.get_arguments().any(|arg| long(arg) && !is_switch(arg))
}

/// By its long name or an alias.
fn is_called(arg: &Arg, name: &str) -> bool {
    arg.get_long() == Some(name) || arg.get_all_aliases().is_some_and(|aliases| aliases.contains(&name))
}

pub(crate) fn is_switch(arg: &Arg) -> bool {
    arg.is_require_equals_set()
}

fn unknown_command(noun: &str, words: &str) -> Failure {
    if unsupported::is_command(words) {
        return Failure::new(format_args!(
            "podwire {words} is not supported yet\nTry 'podwire --help' for the commands that are"
        ));
    }
    let noun = if noun.is_empty() { "podwire".to_owned() } else { format!("podwire {noun}") };
    Failure::new(format_args!("unrecognized command `podwire {words}`\nTry '{noun} --help' for more information"))
}

/// `podwire`, `podwire network`: flags only.
fn run_noun(route: &Route) -> Outcome {
    let clap = global_clap();
    let line = std::iter::once("podwire").chain(route.arguments.iter().map(String::as_str));
    let version = |arg: &String| route.words.is_empty() && (arg == "--version" || arg == "-v");
    if route.arguments.iter().any(version) {
        return crate::commands::version::short();
    }
    match clap.clone().try_get_matches_from(line) {
        Ok(matches) if Global::from_arg_matches(&matches).is_ok_and(|global| global.help) => help::noun(&route.words),
        Ok(_) => {
            help::noun(&route.words)?;
            let path = format!("podwire {}", route.words);
            Err(Failure::new(format_args!("missing command '{} COMMAND'", path.trim_end())))
        }
        Err(error) => {
            if is_help(&error) {
                return help::noun(&route.words);
            }
            Err(usage(&route.words, words_of(&error, &clap, &route.arguments)))
        }
    }
}

/// pflag takes an unknown `-h` for `--help`.
fn is_help(error: &clap::Error) -> bool {
    error.kind() == ErrorKind::UnknownArgument && context(error, ContextKind::InvalidArg) == "-h"
}

fn parse_failure(error: &clap::Error, clap: &Clap, name: &str, args: &[String], entry: &Entry) -> Outcome {
    if is_help(error) {
        return help::command(name, entry);
    }
    Err(refused(error, clap, name, args, entry))
}

fn refused(error: &clap::Error, clap: &Clap, name: &str, args: &[String], entry: &Entry) -> Failure {
    if error.kind() == ErrorKind::UnknownArgument {
        let flag = context(error, ContextKind::InvalidArg);
        if let Some(flag) = unsupported::flag(entry.names[0], &flag) {
            return Failure::new(format_args!("{flag} is not supported by podwire yet"));
        }
    }
    usage(name, words_of(error, clap, args))
}

/// An error about flags, with Podman's second line.
pub(crate) fn usage(command: &str, message: impl std::fmt::Display) -> Failure {
    let path = format!("podwire {command}");
    Failure::new(format_args!("{message}\nSee '{} --help'", path.trim_end()))
}

fn context(error: &clap::Error, kind: ContextKind) -> String {
    match error.get(kind) {
        Some(ContextValue::String(text)) => text.clone(),
        Some(ContextValue::Strings(texts)) => texts.join(" "),
        _ => String::new(),
    }
}

/// clap's error in pflag's words.
fn words_of(error: &clap::Error, clap: &Clap, args: &[String]) -> String {
    let shown = context(error, ContextKind::InvalidArg);
    match error.kind() {
        ErrorKind::UnknownArgument => match shown.strip_prefix('-').filter(|flag| !flag.starts_with('-')) {
            Some(letter) => {
                let typed = args.iter().find(|a| cluster(a).is_some_and(|c| c.contains(letter)));
                format!("unknown shorthand flag: '{letter}' in {}", typed.unwrap_or(&shown))
            }
            None => format!("unknown flag: {}", shown.split('=').next().unwrap_or(&shown)),
        },
        ErrorKind::InvalidValue | ErrorKind::ValueValidation | ErrorKind::WrongNumberOfValues => {
            let value = context(error, ContextKind::InvalidValue);
            let last = args.last().map_or("", String::as_str);
            let flag = named(clap, &shown);
            match (value.is_empty() && error.kind() != ErrorKind::ValueValidation, cluster(last)) {
                (true, Some(letters)) => {
                    format!("flag needs an argument: '{}' in {last}", letters.chars().last().unwrap_or('-'))
                }
                (true, None) => format!("flag needs an argument: {}", last.split('=').next().unwrap_or(last)),
                (false, _) => {
                    let why = std::error::Error::source(error).map_or("invalid value".to_owned(), ToString::to_string);
                    format!("invalid argument {value:?} for \"{}\" flag: {why}", flag.map_or(shown, spelling))
                }
            }
        }
        // The first line, without clap's "error: ".
        _ => error.to_string().lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned(),
    }
}

/// The flag that clap calls `--time <uint>` or `--rm[=<RM>]`.
fn named<'a>(clap: &'a Clap, shown: &str) -> Option<&'a Arg> {
    let name = shown.split([' ', '[', '=']).next()?;
    clap.get_arguments().find(|arg| name.strip_prefix("--").is_some_and(|long| arg.get_long() == Some(long)))
}

/// The letters of `-abc`.
fn cluster(arg: &str) -> Option<&str> {
    arg.strip_prefix('-').filter(|rest| !rest.is_empty() && !rest.starts_with('-'))
}

/// `-t, --time`
fn spelling(arg: &Arg) -> String {
    match (arg.get_short(), arg.get_long()) {
        (Some(short), Some(long)) => format!("-{short}, --{long}"),
        (None, Some(long)) => format!("--{long}"),
        (Some(short), None) => format!("-{short}"),
        (None, None) => arg.get_id().to_string(),
    }
}

/// Podman's checks of the number of arguments.
pub(crate) fn exactly(n: usize, args: &[String]) -> Result<(), Failure> {
    if args.len() == n { Ok(()) } else { Err(Failure::new(format!("accepts {n} arg(s), received {}", args.len()))) }
}

pub(crate) fn at_least(n: usize, args: &[String]) -> Result<(), Failure> {
    if args.len() >= n {
        return Ok(());
    }
    Err(Failure::new(format!("requires at least {n} arg(s), only received {}", args.len())))
}

pub(crate) fn at_most(n: usize, args: &[String]) -> Result<(), Failure> {
    if args.len() <= n {
        return Ok(());
    }
    Err(Failure::new(format!("accepts at most {n} arg(s), received {}", args.len())))
}

pub(crate) fn none(podwire: &Podwire, args: &[String]) -> Result<(), Failure> {
    if args.is_empty() {
        Ok(())
    } else {
        Err(Failure::new(format!("`podwire {}` takes no arguments", podwire.command)))
    }
}

/// Exactly one of names and `--all`, as Podman's commands for several containers want it.
pub(crate) fn names_or_all(names: &[String], all: bool) -> Result<(), Failure> {
    match (names.is_empty(), all) {
        (false, true) => Err(Failure::new("no arguments are needed with --all")),
        (true, false) => Err(Failure::new("you must provide at least one name or id")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn strings_are_split_at_commas_outside_quotes() {
        let check = |value: &str, gives: &[&str]| assert_eq!(strings(&[value.to_owned()]), gives, "{value}");
        check("", &[]);
        check("80,81:81", &["80", "81:81"]);
        check("\"a,b\",c", &["a,b", "c"]);
        check("a\"b", &["a\"b"]);
    }

    #[test]
    fn every_command_is_well_formed() {
        for entry in COMMANDS {
            entry.clap_with_globals().debug_assert();
        }
    }

    /// Words for a command, made of its own flags, their neighbours, and values that fit or do not.
    fn words() -> impl Strategy<Value = Vec<String>> {
        let value = || prop_oneof![Just(String::new()), "-?[a-z0-9=,:./]{1,8}", "\\PC{1,8}", Just("true".to_owned())];
        (0..COMMANDS.len()).prop_flat_map(move |n| {
            let entry = &COMMANDS[n];
            let clap = entry.clap_with_globals();
            let longs = clap.get_arguments().filter_map(|arg| Some(format!("--{}", arg.get_long()?)));
            let shorts = clap.get_arguments().filter_map(|arg| Some(format!("-{}", arg.get_short()?)));
            let known: Vec<String> = longs.chain(shorts).chain(["--nope".to_owned(), "-Z".to_owned()]).collect();
            let flag = proptest::sample::select(known);
            let word = prop_oneof![
                3 => (flag.clone(), value()).prop_map(|(flag, value)| format!("{flag}={value}")),
                3 => flag,
                2 => value(),
            ];
            proptest::collection::vec(word, 0..6)
                .prop_map(move |words| entry.names[0].split(' ').map(str::to_owned).chain(words).collect())
        })
    }

    proptest! {
        #[test]
        fn any_command_line_is_understood_or_refused_in_few_words(args in words()) {
            if let Err(failure) = understand(&args) {
                prop_assert_eq!(failure.code, crate::outcome::USAGE, "{}", failure.message);
                prop_assert!(!failure.message.trim().is_empty() && failure.message.lines().count() <= 2, "{:?}", failure.message);
            }
        }
    }

    #[test]
    fn no_name_belongs_to_two_commands() {
        let mut names: Vec<&str> = COMMANDS.iter().flat_map(|entry| entry.names).copied().collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
