//! `podwire man`: manual pages from the definitions, for those who build packages.

use std::path::Path;

use clap::builder::Command as Clap;
use clap_mangen::Man as Page;

use super::{COMMANDS, NOUNS};
use crate::flags::{self, Command};
use crate::global::Podwire;
use crate::outcome::{Failure, Outcome, plain};
use crate::tree;

#[derive(clap::Args)]
pub(crate) struct Man {
    #[arg(hide = true)]
    arguments: Vec<String>,
}

impl Command for Man {
    fn run(self, _: &Podwire) -> Outcome {
        flags::exactly(1, &self.arguments)?;
        let directory = Path::new(&self.arguments[0]);
        let wrong = |path: &Path, e: std::io::Error| Failure::new(format!("{}: {}", path.display(), plain(&e)));
        std::fs::create_dir_all(directory).map_err(|e| wrong(directory, e))?;
        for (name, page) in pages()? {
            let path = directory.join(format!("{name}.1"));
            std::fs::write(&path, page).map_err(|e| wrong(&path, e))?;
        }
        Ok(0)
    }
}

/// Each page with its name: `podwire-network-create`.
fn pages() -> Result<Vec<(String, Vec<u8>)>, Failure> {
    let whole = tree::podwire(&|_, _, arg| arg);
    let mut pages = vec![page("podwire", "podwire", whole.clone())?];
    for (noun, _) in NOUNS {
        if let Some(clap) = whole.find_subcommand(noun) {
            pages.push(page(&format!("podwire-{noun}"), &format!("podwire {noun}"), clap.clone())?);
        }
    }
    for entry in COMMANDS.iter().filter(|entry| !entry.hidden) {
        let name = entry.names[0];
        let word = name.rsplit(' ').next().unwrap_or(name);
        let clap = tree::command(entry, name, word, &|_, _, arg| arg);
        let others: Vec<String> = entry.names[1..].iter().map(|name| format!("podwire {name}")).collect();
        let mut text = format!("{}.", entry.about);
        if !others.is_empty() {
            text += &format!("\n\nAlso called {}.", others.join(", "));
        }
        text += "\n\nThe options that every command takes are in podwire(1).";
        let clap = clap.long_about(text);
        pages.push(page(&format!("podwire-{}", name.replace(' ', "-")), &format!("podwire {name}"), clap)?);
    }
    Ok(pages)
}

fn page(name: &str, called: &str, clap: Clap) -> Result<(String, Vec<u8>), Failure> {
    let clap = clap.name(name.to_owned()).bin_name(called.to_owned()).display_name(name.to_owned());
    let page = Page::new(clap).title(name).manual("podwire").source(concat!("podwire ", env!("CARGO_PKG_VERSION")));
    let mut text = Vec::new();
    page.render(&mut text)?;
    Ok((name.to_owned(), text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page_that_names_its_flags() {
        let pages = pages().unwrap_or_else(|failure| panic!("{}", failure.message));
        let count = COMMANDS.iter().filter(|entry| !entry.hidden).count();
        assert_eq!(pages.len(), 1 + NOUNS.len() + count);
        let text = |name: &str| {
            let (_, page) = pages.iter().find(|(page, _)| page == name).unwrap();
            String::from_utf8(page.clone()).unwrap()
        };
        let create = text("podwire-network-create");
        assert!(create.contains("podwire network create") && create.contains("\\-\\-subnet"), "{create}");
        assert!(text("podwire-run").contains("podwire container run"));
        assert!(text("podwire").contains("podwire\\-run(1)"), "{}", text("podwire"));
    }
}
