//! Sizes in bytes, as Docker's options read them and as its tables print them.

/// A text that is not a size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid size: '{0}'")]
pub struct SizeError(String);

/// Reads `512`, `512b`, `64m`, `1.5g`, `2GiB`: binary multiples whatever the letter, as `docker run -m` does.
pub fn parse_bytes(text: &str) -> Result<i64, SizeError> {
    let error = || SizeError(text.to_owned());
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let unit = unit.strip_prefix(' ').unwrap_or(unit).to_ascii_lowercase();
    let exponent = match unit.as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 1,
        "m" | "mb" | "mib" => 2,
        "g" | "gb" | "gib" => 3,
        "t" | "tb" | "tib" => 4,
        "p" | "pb" | "pib" => 5,
        _ => return Err(error()),
    };
    let factor = 1024i64.pow(exponent);
    if let Ok(whole) = number.parse::<i64>() {
        return whole.checked_mul(factor).ok_or_else(error);
    }
    let value = number.parse::<f64>().map_err(|_| error())?;
    #[expect(clippy::cast_precision_loss, reason = "the factor is a power of two")]
    let bytes = value * factor as f64;
    if !bytes.is_finite() || bytes >= 9.2e18 {
        return Err(error());
    }
    #[expect(clippy::cast_possible_truncation, reason = "checked to be within range just above")]
    Ok(bytes as i64)
}

/// Three significant digits in units of 1000: `1.24MB`, `72.8MB`, `0B`. Docker's form for sizes in tables.
pub fn format_decimal(bytes: u64) -> String {
    scaled(bytes, 1000.0, &["B", "kB", "MB", "GB", "TB", "PB", "EB"], 3)
}

/// Four significant digits in units of 1000: `1.235MB`. Docker's form for progress and for what a prune freed.
pub fn format_decimal_fine(bytes: u64) -> String {
    scaled(bytes, 1000.0, &["B", "kB", "MB", "GB", "TB", "PB", "EB"], 4)
}

/// Four significant digits in units of 1024: `11.5MiB`. Docker's form for memory.
pub fn format_binary(bytes: u64) -> String {
    scaled(bytes, 1024.0, &["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"], 4)
}

fn scaled(bytes: u64, base: f64, units: &[&str], digits: usize) -> String {
    #[expect(clippy::cast_precision_loss, reason = "printed with four digits")]
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= base && unit + 1 < units.len() {
        value /= base;
        unit += 1;
    }
    format!("{}{}", significant(value, digits), units[unit])
}

/// Go's `%.Ng`: N significant digits, no trailing zeros, an exponent once the number has more digits than that.
fn significant(value: f64, digits: usize) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let scientific = format!("{value:.*e}", digits - 1);
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let trim = |text: &str| match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text.to_owned(),
    };
    let shown = i32::try_from(digits).unwrap_or(i32::MAX);
    if exponent >= shown {
        return format!("{}e+{exponent:02}", trim(mantissa));
    }
    let decimals = usize::try_from(shown - 1 - exponent).unwrap_or(0);
    trim(&format!("{value:.decimals$}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_dockers_sizes() {
        for (text, bytes) in
            [("0", 0), ("32", 32), ("32b", 32), ("64m", 64 << 20), ("1.5g", 3 << 29), ("2GiB", 2 << 30), ("1KB", 1024)]
        {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
        for bad in ["", "m", "-1", "1x", "1.2.3k", "99999999999g", "1 000", "NaN", "inf"] {
            assert!(parse_bytes(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn prints_dockers_sizes() {
        for (bytes, text) in [
            (0, "0B"),
            (999, "999B"),
            (1240, "1.24kB"),
            (72_800_000, "72.8MB"),
            (1_000_000_000, "1GB"),
            (4_423_456, "4.42MB"),
        ] {
            assert_eq!(format_decimal(bytes), text);
        }
        assert_eq!(format_decimal_fine(12_345), "12.35kB");
        for (bytes, text) in [(0, "0B"), (1023, "1023B"), (12_058_624, "11.5MiB"), (1_572_864, "1.5MiB")] {
            assert_eq!(format_binary(bytes), text);
        }
    }
}
