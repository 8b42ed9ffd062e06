//! `-e` and `--env-file`.

use crate::outcome::{Failure, plain};

/// Variables in order: those of files first, so that `-e` wins. `None`: taken from our own environment.
pub(crate) fn environment(files: &[String], flags: &[String]) -> Result<Vec<(String, Option<String>)>, Failure> {
    let mut variables = Vec::new();
    for path in files {
        let text = std::fs::read_to_string(path).map_err(|e| Failure::new(format!("open {path}: {}", plain(&e))))?;
        variables.extend(of_file(&text)?);
    }
    for flag in flags {
        variables.extend(variable(flag)?);
    }
    Ok(variables)
}

/// The variables of one file.
pub(crate) fn of_file(text: &str) -> Result<Vec<(String, Option<String>)>, Failure> {
    let mut variables = Vec::new();
    for line in text.lines().map(str::trim_start).filter(|l| !l.is_empty() && !l.starts_with('#')) {
        variables.extend(variable(line)?);
    }
    Ok(variables)
}

/// What `--http-proxy`, which is on by default, takes from our own environment.
pub(crate) fn proxies() -> Vec<(String, Option<String>)> {
    const NAMES: [&str; 4] = ["http_proxy", "https_proxy", "ftp_proxy", "no_proxy"];
    let both = NAMES.iter().flat_map(|name| [(*name).to_owned(), name.to_uppercase()]);
    both.filter_map(|name| std::env::var(&name).ok().map(|value| (name, Some(value)))).collect()
}

/// `--env-host`: all of ours.
pub(crate) fn ours() -> Vec<(String, Option<String>)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, Some(value.into_string().ok()?))))
        .collect()
}

/// `NAME=VALUE`, `NAME`, or `PREFIX*` for all of ours that begin so.
fn variable(text: &str) -> Result<Vec<(String, Option<String>)>, Failure> {
    match text.split_once('=') {
        Some(("", _)) => Err(Failure::new(format!("invalid variable: {text:?}"))),
        Some((name, value)) => Ok(vec![(name.to_owned(), Some(value.to_owned()))]),
        None if text.is_empty() => Err(Failure::new(format!("invalid variable: {text:?}"))),
        None => match text.strip_suffix('*') {
            None => Ok(vec![(text.to_owned(), None)]),
            Some(prefix) => Ok(std::env::vars_os()
                .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
                .filter(|(name, _)| name.starts_with(prefix))
                .map(|(name, value)| (name, Some(value)))
                .collect()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_come_before_flags_and_comments_are_skipped() {
        let file = std::env::temp_dir().join(format!("podwire-env-{}", std::process::id()));
        std::fs::write(&file, "# comment\nA=1\n\n  B=2 x\nC\n").unwrap();
        let got = environment(&[file.to_string_lossy().into_owned()], &["A=3=4".to_owned()]).unwrap();
        std::fs::remove_file(&file).unwrap();
        let got: Vec<String> = got.iter().map(|(k, v)| format!("{k}={v:?}")).collect();
        assert_eq!(got, ["A=Some(\"1\")", "B=Some(\"2 x\")", "C=None", "A=Some(\"3=4\")"]);
    }

    #[test]
    fn a_star_takes_all_of_ours_that_begin_so() {
        let got = environment(&[], &["PAT*".to_owned()]).unwrap();
        assert!(got.iter().any(|(name, value)| name == "PATH" && value.is_some()));
    }
}
