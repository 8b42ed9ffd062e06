//! Durations, sizes and points in time, as Podman's users read and write them.

use jiff::{SignedDuration, Timestamp};

/// Go's `units.HumanDuration`: `Less than a second`, `5 minutes`, `2 weeks`.
pub(crate) fn human_duration(duration: SignedDuration) -> String {
    let seconds = duration.as_secs();
    let minutes = seconds / 60;
    // Go rounds hours to the nearest.
    let hours = (duration.as_secs_f64() / 3600.0).round() as i64;
    match () {
        () if seconds < 1 => "Less than a second".to_owned(),
        () if seconds == 1 => "1 second".to_owned(),
        () if seconds < 60 => format!("{seconds} seconds"),
        () if minutes == 1 => "About a minute".to_owned(),
        () if minutes < 60 => format!("{minutes} minutes"),
        () if hours == 1 => "About an hour".to_owned(),
        () if hours < 48 => format!("{hours} hours"),
        () if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        () if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        () if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        () => format!("{} years", seconds / 3600 / 24 / 365),
    }
}

/// How long ago it was: `5 minutes ago`.
pub(crate) fn ago(then: Timestamp, now: Timestamp) -> String {
    format!("{} ago", human_duration(now.duration_since(then)))
}

/// Go's `units.HumanSizeWithPrecision(size, 3)`: `4.5 kB`, in powers of 1000.
pub(crate) fn human_size(bytes: u64) -> String {
    let (size, unit) = scaled(bytes);
    format!("{} {unit}", digits(size, 3))
}

/// Go's `units.HumanSize(size)`: `4.512kB`.
pub(crate) fn human_size_4(bytes: u64) -> String {
    let (size, unit) = scaled(bytes);
    format!("{}{unit}", digits(size, 4))
}

fn scaled(bytes: u64) -> (f64, &'static str) {
    const UNITS: &[&str] = &["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    let mut size = bytes as f64;
    let mut unit = 0;
    while size >= 1000.0 && unit + 1 < UNITS.len() {
        size /= 1000.0;
        unit += 1;
    }
    (size, UNITS[unit])
}

/// Go's `%.3g` or `%.4g` below 1000.
fn digits(x: f64, count: usize) -> String {
    let whole = if x < 1.0 { 1 } else { x.log10().floor() as usize + 1 };
    let text = format!("{x:.*}", count.saturating_sub(whole));
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

/// A time as Go's `time.Time` prints: `2026-11-23 18:10:36.351941991 +0000 UTC`.
pub(crate) fn go_time(time: Timestamp) -> String {
    let text = time.to_string();
    format!("{} +0000 UTC", text.trim_end_matches('Z').replacen('T', " ", 1))
}

/// What `--since` and `--until` take: RFC 3339, a date, seconds since 1970, or a duration back from now.
pub(crate) fn parse_time(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    if let Some(duration) = parse_duration(text) {
        return now.checked_sub(duration).map_err(|e| e.to_string());
    }
    let with_zone = [String::new(), "Z".to_owned(), ":00Z".to_owned(), "T00:00:00Z".to_owned()];
    if let Some(time) = with_zone.iter().find_map(|rest| format!("{text}{rest}").parse().ok()) {
        return Ok(time);
    }
    let (seconds, nanos) = text.split_once('.').unwrap_or((text, "0"));
    let nanos = format!("{nanos:0<9}");
    match (seconds.parse(), nanos.get(..9).unwrap_or_default().parse()) {
        (Ok(seconds), Ok(nanos)) => {
            let (first, last) = (Timestamp::MIN.as_second(), Timestamp::MAX.as_second());
            Timestamp::new(i64::clamp(seconds, first + 1, last - 1), nanos).map_err(|e| e.to_string())
        }
        _ => Err(format!("failed to parse time/duration: {text:?}")),
    }
}

/// Go's `time.ParseDuration`: `1h30m`, `1.5s`, `300ms`.
pub(crate) fn parse_duration(text: &str) -> Option<SignedDuration> {
    const UNITS: &[(&str, f64)] =
        &[("ns", 1e-9), ("us", 1e-6), ("µs", 1e-6), ("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];
    let (negative, mut rest) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let mut seconds = 0.0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !(c.is_ascii_digit() || c == '.'))?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        // The longest unit that fits: `ms` before `m`.
        let (unit, scale) =
            UNITS.iter().filter(|(unit, _)| rest.starts_with(unit)).max_by_key(|(unit, _)| unit.len())?;
        rest = &rest[unit.len()..];
        seconds += number * scale;
    }
    SignedDuration::try_from_secs_f64(if negative { -seconds } else { seconds }).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_gos_units_package_writes_them() {
        for (seconds, text) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (300, "5 minutes"),
            (3600, "About an hour"),
            (2 * 3600, "2 hours"),
            (47 * 3600, "47 hours"),
            (3 * 86400, "3 days"),
            (15 * 86400, "2 weeks"),
            (90 * 86400, "3 months"),
            (800 * 86400, "2 years"),
        ] {
            assert_eq!(human_duration(SignedDuration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn sizes_have_three_digits() {
        for (bytes, text) in
            [(0, "0 B"), (999, "999 B"), (1000, "1 kB"), (4_261_550, "4.26 MB"), (123_456_789, "123 MB")]
        {
            assert_eq!(human_size(bytes), text);
        }
    }

    #[test]
    fn since_takes_what_podman_takes() {
        let now: Timestamp = "2026-11-24T12:00:00Z".parse().unwrap();
        let check = |text: &str, means: &str| assert_eq!(parse_time(text, now).unwrap().to_string(), means, "{text}");
        check("10m", "2026-11-24T11:50:00Z");
        check("1h30m", "2026-11-24T10:30:00Z");
        check("2026-11-24T10:00:00Z", "2026-11-24T10:00:00Z");
        check("2026-11-24T10:00:00", "2026-11-24T10:00:00Z");
        check("2026-11-24", "2026-11-24T00:00:00Z");
        check("1795457471.5", "2026-11-23T18:11:11.5Z");
        check("5000000000000", "9999-12-30T21:59:59Z");
        assert!(parse_time("yesterday", now).is_err());
    }

    #[test]
    fn a_time_prints_as_in_go() {
        assert_eq!(
            go_time("2026-11-23T18:10:36.351941991Z".parse().unwrap()),
            "2026-11-23 18:10:36.351941991 +0000 UTC"
        );
    }
}
