//! How this process takes part in a container: `-a`, `--sig-proxy`, `--detach-keys`.

use engine::Foreground;

use crate::flags::switch;
use crate::outcome::Failure;

#[derive(clap::Args, Debug)]
pub(crate) struct AttachFlags {
    /// Attach to stdin, stdout or stderr only
    #[arg(short, long, value_name = "strings")]
    attach: Vec<String>,
    /// Pass signals on to the container (default true)
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = switch)]
    sig_proxy: Option<bool>,
    /// Keys that detach from the container (default ctrl-p,ctrl-q)
    #[arg(long, value_name = "string")]
    detach_keys: Option<String>,
}

impl AttachFlags {
    pub(crate) fn foreground(&self) -> Result<Foreground, Failure> {
        let streams = crate::flags::strings(&self.attach);
        if let Some(wrong) = streams.iter().find(|s| !["stdin", "stdout", "stderr"].contains(&&*s.to_lowercase())) {
            return Err(Failure::new(format!(
                "invalid stream {wrong:?} for --attach - must be one of stdin, stdout, or stderr"
            )));
        }
        let wants = |stream: &str| streams.is_empty() || streams.iter().any(|s| s.eq_ignore_ascii_case(stream));
        Ok(Foreground {
            stdin: wants("stdin"),
            stdout: wants("stdout"),
            stderr: wants("stderr"),
            signals: self.sig_proxy.unwrap_or(true),
            detach_keys: self.detach_keys.as_deref().map(str::parse).transpose()?.unwrap_or_default(),
        })
    }
}
