//! Doors for fuzzers: whatever the text, these return.

use std::sync::LazyLock;

use clap::{ArgMatches, FromArgMatches as _};
use engine::config::NetworkConfig;
use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::commands::pod_create::PodCreate;
use crate::conf::Conf;
use crate::container::{ContainerFlags, Wish};
use crate::filters::{Filters, matches};
use crate::flags::{self, global_clap};
use crate::global::{Global, Podwire};
use crate::outcome::Failure;
use crate::template::{Template, Value};
use crate::{ages, container, sizes};

/// Parses `text` as a template for `--format`, and renders it over `json`.
pub fn template(text: &str, json: &str) {
    let Ok(json) = serde_json::from_str(json) else { return };
    if let Ok(template) = Template::parse("fuzz", text, 0) {
        let _ = template.render(&Value::from_json(&json, &["Labels", "Networks"]), &mut String::new());
    }
}

/// Flags that name a file which is read before anything is done.
const FILES: [&str; 5] = ["env-file", "label-file", "pod-id-file", "init-path", "init"];

/// The commands whose flags are read into what the engine is asked for.
static CREATE: LazyLock<clap::Command> = LazyLock::new(|| clap_of("create"));
static POD_CREATE: LazyLock<clap::Command> = LazyLock::new(|| clap_of("pod create"));

fn clap_of(name: &str) -> clap::Command {
    let entry = crate::commands::COMMANDS.iter().find(|entry| entry.names[0] == name).expect("one of the commands");
    let mut clap = entry.clap();
    clap.build();
    clap
}

fn podwire(command: &'static str) -> Podwire {
    static GLOBAL: LazyLock<Global> = LazyLock::new(|| {
        let matches = global_clap().try_get_matches_from(["podwire"]).expect("no flag is needed");
        Global::from_arg_matches(&matches).expect("as before")
    });
    Podwire::where_nothing_is_set(GLOBAL.clone(), command)
}

/// `FLAG VALUE` lines as words for `clap`, without flags that it does not have or that read files.
fn words(clap: &clap::Command, lines: &str) -> Vec<String> {
    let known = |flag: &str| {
        let name = flag.trim_start_matches('-');
        let has = clap.get_arguments().any(|arg| arg.get_long() == Some(name));
        (has && !FILES.contains(&name)).then(|| format!("--{name}"))
    };
    let word = |line: &str| {
        let (flag, value) = line.split_once(' ').map_or((line, None), |(flag, value)| (flag, Some(value)));
        known(flag).map(|flag| value.map_or(flag.clone(), |value| format!("{flag}={value}")))
    };
    lines.lines().filter_map(word).collect()
}

fn read(clap: &clap::Command, words: Vec<String>) -> Option<ArgMatches> {
    clap.clone().try_get_matches_from(std::iter::once(clap.get_name().to_owned()).chain(words)).ok()
}

/// What is asked for is remembered, and read again as the same.
fn is_kept<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(asked: &T) {
    let stored = serde_json::to_string(asked).expect("it can be stored");
    assert_eq!(&serde_json::from_str::<T>(&stored).expect("it was stored"), asked);
}

fn check(wish: Result<Wish, Failure>) -> Option<NetworkConfig> {
    let config = match wish {
        Ok(wish) => wish.config,
        Err(failure) => {
            assert!(!failure.message.is_empty());
            return None;
        }
    };
    is_kept(&config.security);
    is_kept(&config.limits);
    is_kept(&config.inside);
    is_kept(&config.care);
    is_kept(&config.unset_env);
    for (name, _) in &config.env {
        assert!(!name.is_empty() && !name.contains('='), "{name:?}");
    }
    for target in config.volumes.iter().map(|volume| &volume.target).chain(config.tmpfs.iter().map(|(path, _)| path)) {
        assert!(target.starts_with('/'), "{target:?}");
    }
    Some(config.network)
}

/// The network that `run` would give to a container. Each line is a flag and its value, with a space between; `None`
/// when it refuses.
pub fn run(lines: &str) -> Option<NetworkConfig> {
    let words = words(&CREATE, lines).into_iter().chain(["image".to_owned()]);
    let flags = ContainerFlags::from_arg_matches(&read(&CREATE, words.collect())?).ok()?;
    check(flags.wish(&podwire("create")))
}

/// As [`run`] for `pod create`.
pub fn pod(lines: &str) -> Option<NetworkConfig> {
    let flags = PodCreate::from_arg_matches(&read(&POD_CREATE, words(&POD_CREATE, lines))?).ok()?;
    Some(flags.config(&podwire("pod create")).ok()?.0.network)
}

/// Reads the parts of `text` between lines of dashes as one containers.conf after the other, and lets `run` read what
/// they say.
pub fn containers_conf(text: &str) {
    let mut conf = Conf::default();
    for part in text.split("\n---\n") {
        if conf.add(part).is_err() {
            return;
        }
    }
    let _ = (conf.env(), conf.capabilities(), conf.runtime(None));
    let _ = (conf.network(), conf.default_subnet(), conf.subnet_pools(), conf.own_env(), conf.userns());
    let words = conf.flags("create", &[]);
    assert!(words.iter().all(|word| word.starts_with("--") && word.contains('=')), "{words:?}");
    let is_file = |word: &String| FILES.iter().any(|file| word.starts_with(&format!("--{file}=")));
    let words = words.into_iter().filter(|word| !is_file(word)).chain(["image".to_owned()]);
    if let Some(flags) =
        read(&CREATE, words.collect()).and_then(|matches| ContainerFlags::from_arg_matches(&matches).ok())
    {
        check(flags.wish(&podwire("create")));
    }
}

/// Understands `args` as a command line, up to where a command would begin: what is refused is told why.
pub fn command_line(args: &[String]) {
    if let Err(failure) = flags::understand(args) {
        assert!(!failure.message.is_empty() && failure.code != 0, "{args:?}");
    }
}

/// Reads `text` as each small thing that flags take: times, durations, sizes, numbers, lists, paths of `cp`.
pub fn values(text: &str) {
    let now = Timestamp::new(1_795_457_609, 0).expect("a time");
    if let Ok(time) = ages::parse_time(text, now) {
        assert!(!ages::go_time(time).is_empty() && ages::ago(time, now).ends_with("ago"));
    }
    if let Some(duration) = ages::parse_duration(text) {
        assert!(!ages::human_duration(duration).is_empty());
    }
    if let Some(size) = sizes::parse(text) {
        assert!(ages::human_size(size).len() <= 8 && ages::human_size_4(size).len() <= 8, "{size}");
    }
    let _ = (flags::switch(text), flags::unsigned(text), flags::signed(text), flags::patience(text));
    let fields = flags::strings(&[text.to_owned()]);
    assert!(fields.iter().map(String::len).sum::<usize>() <= text.len());
    let _ = (crate::commands::port::is_port(text), crate::commands::cp::is_in_container(text));
}

/// Reads each line as `--filter`, and asks for what fits.
pub fn filters(lines: &str) {
    let flags: Vec<String> = lines.lines().map(str::to_owned).collect();
    let Ok(filters) = Filters::parse(&flags, &["name", "label", "label!", "until", "dangling"]) else { return };
    if let Ok(patterns) = filters.patterns("name") {
        matches(&patterns, "a name of something, such as web-1_2.example");
    }
    filters.labels(&[("a".to_owned(), "b".to_owned())].into());
    let _ = filters.one("dangling", crate::filters::dangling);
    let _ = filters.any("until", |text| ages::parse_time(text, Timestamp::UNIX_EPOCH).is_ok());
}

/// Reads `text` as a file of `--env-file`, and of `--label-file`.
pub fn env_files(text: &str) {
    for (name, _) in container::env::of_file(text).into_iter().flatten() {
        assert!(!name.is_empty() && !name.contains(['=', '\n']), "{name:?}");
    }
    for (key, value) in container::labels_of_file(text) {
        assert!(!key.contains(['=', '\n']) && !value.contains('\n'), "{key:?} {value:?}");
    }
}
