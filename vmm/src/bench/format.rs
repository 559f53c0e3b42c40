//! Figures as people read them: in a unit that fits, with as many digits as matter.

use indicatif::HumanCount;

/// A time of `ns` nanoseconds.
#[must_use]
pub fn time(ns: f64) -> String {
    if ns == 0.0 {
        return "0".into();
    }
    for (unit, size) in [("s", 1e9), ("ms", 1e6), ("us", 1e3)] {
        if ns.abs() >= size * 0.9995 {
            return format!("{} {unit}", digits(ns / size));
        }
    }
    if ns.abs() < 0.9995 {
        return format!("{ns:.2} ns");
    }
    format!("{} ns", digits(ns))
}

/// A whole number of `bytes`, in a unit that leaves it whole where there is one.
#[must_use]
pub fn size(bytes: u64) -> String {
    for (unit, shift) in [("GiB", 30), ("MiB", 20), ("KiB", 10)] {
        if bytes != 0 && bytes.is_multiple_of(1 << shift) {
            return format!("{} {unit}", bytes >> shift);
        }
    }
    format!("{bytes} B")
}

/// A number of `bytes`, in MiB.
#[must_use]
pub fn mib(bytes: f64) -> String {
    format!("{} MiB", digits(bytes / f64::from(1 << 20)))
}

/// A number with three significant digits, or all digits before the point with a comma between
/// thousands.
#[must_use]
pub fn digits(value: f64) -> String {
    let magnitude = value.abs();
    if magnitude >= 99.95 {
        let sign = if value < 0.0 { "-" } else { "" };
        return format!("{sign}{}", HumanCount(magnitude.round() as u64));
    }
    let places = if magnitude >= 9.995 {
        1
    } else if magnitude >= 0.9995 || magnitude == 0.0 {
        2
    } else {
        3
    };
    format!("{value:.places$}")
}

/// A figure of this `unit`, which is empty for a plain number.
#[must_use]
pub fn with_unit(value: f64, unit: &str) -> String {
    match unit {
        "ns" => time(value),
        "bytes" => mib(value),
        "" => digits(value),
        unit => format!("{} {unit}", digits(value)),
    }
}

/// A count for one operation.
#[must_use]
pub fn count(value: f64) -> String {
    format!("{value:.3}")
}

/// What a `ratio` is beyond 1, in per cent, with its sign.
#[must_use]
pub fn beyond(ratio: f64) -> String {
    percent((ratio - 1.0) * 100.0)
}

/// A difference in per cent, with its sign.
#[must_use]
pub fn percent(value: f64) -> String {
    let sign = if value.is_sign_negative() { '-' } else { '+' };
    format!("{sign}{}", share(value.abs()))
}

/// A share in per cent, 0 or more.
#[must_use]
pub fn share(percent: f64) -> String {
    if percent < 99.95 {
        format!("{percent:.1} %")
    } else {
        format!("{percent:.0} %")
    }
}

#[cfg(test)]
#[path = "format_tests.rs"]
mod tests;
