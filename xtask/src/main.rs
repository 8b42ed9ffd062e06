//! Chores of the project: `sum` adds up test results, `deps` writes the dependency block of ARCHITECTURE.md.
//! What the documents say about the code is checked by the tests at the end.

mod deps;
mod sum;

use anyhow::{Result, bail};

fn main() -> Result<()> {
    match std::env::args().nth(1).as_deref() {
        Some("sum") => sum::run(),
        Some("deps") => deps::write(),
        _ => bail!("usage: xtask sum | xtask deps"),
    }
}

#[cfg(test)]
mod documents;
