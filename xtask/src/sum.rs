//! Adds up the `test result:` lines of `cargo test`, which is read from standard input and shown as it comes.
//!
//! ```text
//! cargo test --workspace --no-fail-fast 2>&1 | xtask sum
//! …
//! 310 passed, 0 failed, 2 skipped
//! ```

use std::io::{BufRead, Write};

use anyhow::Result;

/// What was counted.
#[derive(Debug, Default, PartialEq, Eq)]
struct Sum {
    passed: u64,
    failed: u64,
    skipped: u64,
    /// Lines that say that cargo or a test program itself did not work, or which test failed.
    errors: Vec<String>,
    /// Lines about tests of the lab that passed only when alone.
    flaky: Vec<String>,
}

/// What cargo says when something could not be built or did not run; commands under test print errors too.
const CARGO_FAILED: [&str; 4] = ["error[E", "error: could not", "error: test failed", "error: failed to"];

/// Shows standard input, then the tests that were flaky or failed, and the sum; ends with 1 unless all is well.
pub(crate) fn run() -> Result<()> {
    let mut sum = Sum::default();
    let mut out = std::io::stdout().lock();
    for line in std::io::stdin().lock().split(b'\n') {
        let line = String::from_utf8_lossy(&line?).into_owned();
        writeln!(out, "{line}")?;
        sum.add(&line);
    }
    writeln!(out)?;
    for line in sum.flaky.iter().chain(&sum.errors) {
        writeln!(out, "{line}")?;
    }
    writeln!(out, "{} passed, {} failed, {} skipped", sum.passed, sum.failures(), sum.skipped)?;
    out.flush()?;
    std::process::exit(i32::from(!sum.is_well()))
}

impl Sum {
    fn add(&mut self, line: &str) {
        if let Some(counts) = line.strip_prefix("test result: ") {
            let of = |word: &str| count(counts, word);
            self.passed += of("passed");
            self.failed += of("failed");
            self.skipped += of("ignored");
        } else if CARGO_FAILED.iter().any(|sign| line.starts_with(sign))
            || (line.starts_with("test ") && line.ends_with("FAILED"))
        {
            self.errors.push(line.to_owned());
        } else if line.starts_with("FLAKY: ") {
            self.flaky.push(line.to_owned());
        }
    }

    /// A test program that broke off has counted nothing.
    fn failures(&self) -> u64 {
        self.failed.max(u64::from(!self.errors.is_empty()))
    }

    fn is_well(&self) -> bool {
        self.failed == 0 && self.errors.is_empty() && self.passed > 0
    }
}

/// `ok. 12 passed; 0 failed; …`: the number before the word.
fn count(counts: &str, word: &str) -> u64 {
    let words: Vec<&str> = counts.split([' ', ';']).filter(|word| !word.is_empty()).collect();
    words.windows(2).find(|pair| pair[1] == word).and_then(|pair| pair[0].parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(text: &str) -> Sum {
        let mut sum = Sum::default();
        text.lines().for_each(|line| sum.add(line));
        sum
    }

    #[test]
    fn results_of_several_programs_are_added() {
        let text = "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.10s
                    Running something
test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured";
        let sum = sum(text);
        assert_eq!((sum.passed, sum.failed, sum.skipped), (15, 2, 1));
        assert!(!sum.is_well());
    }

    #[test]
    fn a_program_that_can_not_be_built_is_no_success() {
        let broken = sum("test result: ok. 12 passed; 0 failed\nerror: could not compile `x`");
        assert_eq!((broken.is_well(), broken.failures()), (false, 1));
    }

    #[test]
    fn no_test_at_all_is_no_success() {
        assert!(!sum("").is_well());
    }
}
