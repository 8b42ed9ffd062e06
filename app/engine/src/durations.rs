//! Durations as Podman, which is written in Go, shows them.

/// Go's `time.Duration` as text: `1h2m3.5s`, `15.25ms`, `0s`.
pub fn go_duration(nanoseconds: u64) -> String {
    let part = |whole: u64, unit: u64| {
        let text = format!("{}.{:0width$}", whole / unit, whole % unit, width = unit.ilog10() as usize);
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    match nanoseconds {
        0 => "0s".to_owned(),
        n @ ..1_000 => format!("{n}ns"),
        n @ ..1_000_000 => format!("{}µs", part(n, 1_000)),
        n @ ..1_000_000_000 => format!("{}ms", part(n, 1_000_000)),
        n => {
            let (minutes, rest) = (n / 60_000_000_000, n % 60_000_000_000);
            let seconds = format!("{}s", part(rest, 1_000_000_000));
            match (minutes / 60, minutes % 60) {
                (0, 0) => seconds,
                (0, minutes) => format!("{minutes}m{seconds}"),
                (hours, minutes) => format!("{hours}h{minutes}m{seconds}"),
            }
        }
    }
}
