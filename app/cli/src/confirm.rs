//! Asking before what cannot be taken back.

use std::io::BufRead as _;

use crate::global::write;
use crate::outcome::Failure;

/// Podman's question after `warning`; only an answer that begins with `y` is yes.
pub(crate) fn confirmed(warning: &str) -> Result<bool, Failure> {
    write(&format!("{warning}\nAre you sure you want to continue? [y/N] "))?;
    let mut answer = String::new();
    if std::io::stdin().lock().read_line(&mut answer)? == 0 {
        return Err(Failure::new("EOF"));
    }
    Ok(answer.trim().to_ascii_lowercase().starts_with('y'))
}
