//! Sizes as users write them.

/// Go's `units.RAMInBytes`: `512`, `64k`, `1.5m`, `2gb`, `1GiB`; powers of 1024.
pub(crate) fn parse(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let number: f64 = text[..digits].parse().ok()?;
    let unit = text[digits..].trim_start().to_ascii_lowercase();
    let power = match unit.trim_end_matches('b').trim_end_matches('i') {
        "" if !unit.contains('i') => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return None,
    };
    let bytes = number * 1024_f64.powi(power);
    (bytes.is_finite() && bytes < u64::MAX as f64).then_some(bytes as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_podman_reads_them() {
        for (text, bytes) in [
            ("0", 0),
            ("512", 512),
            ("64k", 65536),
            ("1.5m", 1_572_864),
            ("2gb", 2 << 30),
            ("1GiB", 1 << 30),
            ("7b", 7),
        ] {
            assert_eq!(parse(text), Some(bytes), "{text}");
        }
        for wrong in ["", "x", "1x", "-1", "1..2", "1kk", "ib"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
