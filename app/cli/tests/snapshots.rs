//! What the user sees: help and error texts, as recorded in `snapshots/*.txt`. `UPDATE=1` records anew.
//!
//! None of these commands gets as far as the engine; a root of its own keeps a slip from the machine's store.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

/// One block per command: `$ podwire …`, what it prints (`ERR|` for standard error), its exit code.
fn run(arguments: &str) -> String {
    let scratch = tempfile::tempdir().unwrap();
    let nowhere = scratch.path().join("nowhere");
    let words = arguments.split_whitespace().map(|word| if word == "''" { "" } else { word });
    let output = Command::new(env!("CARGO_BIN_EXE_podwire"))
        .arg("--root")
        .arg(nowhere.join("root"))
        .arg("--runroot")
        .arg(nowhere.join("run"))
        .args(words)
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    assert!(!nowhere.exists(), "podwire {arguments} opened the engine");
    let mut block = format!("$ podwire {arguments}\n").replace("podwire \n", "podwire\n");
    for (mark, bytes) in [("OUT|", &output.stdout), ("ERR|", &output.stderr)] {
        for line in String::from_utf8(bytes.clone()).unwrap().lines() {
            writeln!(block, "{mark} {line}").unwrap();
        }
    }
    writeln!(block, "RC={}", output.status.code().unwrap()).unwrap();
    block.replace("| \n", "|\n")
}

fn check(name: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots").join(name);
    let recorded = std::fs::read_to_string(&path).unwrap();
    let commands = recorded.lines().filter_map(|line| line.strip_prefix("$ podwire"));
    let now: Vec<String> = commands.map(|arguments| run(arguments.trim())).collect();
    let now = now.join("\n");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &now).unwrap();
    }
    assert!(now == recorded || std::env::var_os("UPDATE").is_some(), "{name} differs (UPDATE=1 records anew):\n{now}");
}

#[test]
fn errors_are_in_podmans_words() {
    check("errors.txt");
}

#[test]
fn help_is_in_podmans_shape() {
    check("help.txt");
}

#[test]
fn restarting_connecting_and_events_are_in_podmans_words() {
    check("life.txt");
}
