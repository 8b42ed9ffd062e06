//! What the documents say, compared with the code.

use std::path::{Path, PathBuf};

use crate::deps::{block, metadata, root, written};

#[test]
fn the_dependency_block_of_architecture_md_is_what_cargo_metadata_says() {
    let text = read("ARCHITECTURE.md");
    let block = block(&metadata().expect("cargo metadata"));
    assert_eq!(written(&text).expect("a dependency block"), block, "./x deps writes it");
}

#[test]
fn core_depends_on_neither_sys_nor_app_and_sys_not_on_app() {
    for (name, needs) in metadata().expect("cargo metadata") {
        let layer = name.split('/').next().unwrap_or_default();
        let above: &[&str] = match layer {
            "core" => &["sys/", "app/"],
            "sys" => &["app/"],
            _ => &[],
        };
        let wrong: Vec<_> = needs.iter().filter(|need| above.iter().any(|layer| need.starts_with(layer))).collect();
        assert!(wrong.is_empty(), "{name} depends on {wrong:?}");
    }
}

#[test]
fn unsafe_code_is_allowed_in_sys_linux_alone() {
    let sources = files(&["core", "sys", "app", "tests", "bench", "xtask"], "rs");
    let marker = ["allow(", "unsafe_code)"].concat();
    let wrong: Vec<_> = sources
        .iter()
        .filter(|path| !path.starts_with(root().join("sys/linux")))
        .filter(|path| text(path).contains(&marker))
        .collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn every_link_between_documents_leads_somewhere() {
    for document in documents() {
        for target in links(&text(&document)) {
            let path = document.parent().expect("a directory").join(target);
            assert!(path.exists(), "{} links to {}", document.display(), path.display());
        }
    }
}

#[test]
fn every_path_that_contributing_names_exists() {
    for word in quoted(&read("CONTRIBUTING.md")) {
        let is_path = word.contains('/') && !word.contains([' ', '<', '*', ':', '…']);
        assert!(!is_path || root().join(word.trim_start_matches("./")).exists(), "CONTRIBUTING.md names {word}");
    }
}

#[test]
fn every_x_command_of_the_documents_exists() {
    let script = read("x");
    for document in documents() {
        let text = text(&document);
        for name in text
            .split("./x ")
            .skip(1)
            .map(|rest| rest.split(|c: char| !c.is_ascii_lowercase()).next().unwrap_or_default())
        {
            assert!(name.is_empty() || script.contains(&format!("\n{name})\n")), "{}: ./x {name}", document.display());
        }
    }
}

#[test]
fn documents_do_not_praise() {
    let praise = [
        "blazing",
        "seamless",
        "robust",
        "comprehensive",
        "production-ready",
        "state-of-the-art",
        "powerful",
        "effortless",
    ];
    for document in documents() {
        let text = text(&document).to_lowercase();
        let found: Vec<_> = praise.iter().filter(|word| text.contains(*word)).collect();
        assert!(found.is_empty(), "{}: {found:?}", document.display());
    }
}

fn read(name: &str) -> String {
    text(&root().join(name))
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn documents() -> Vec<PathBuf> {
    let top = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"]
        .map(|name| root().join(name));
    top.into_iter().chain(files(&["docs"], "md")).collect()
}

fn files(dirs: &[&str], extension: &str) -> Vec<PathBuf> {
    let mut todo: Vec<PathBuf> = dirs.iter().map(|dir| root().join(dir)).collect();
    let mut found = Vec::new();
    while let Some(dir) = todo.pop() {
        for entry in std::fs::read_dir(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display())).flatten() {
            let path = entry.path();
            if path.is_dir() {
                todo.push(path);
            } else if path.extension().is_some_and(|e| e == extension) {
                found.push(path);
            }
        }
    }
    found
}

/// Targets of `[text](target)` that are files of ours.
fn links(text: &str) -> Vec<&str> {
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next());
    targets.filter(|target| !target.is_empty() && !target.contains("://")).collect()
}

/// What stands between single backquotes.
fn quoted(text: &str) -> Vec<&str> {
    let prose = text.split("```").step_by(2);
    prose.flat_map(|part| part.split('`').skip(1).step_by(2)).collect()
}
