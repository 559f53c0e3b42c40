//! Numbers on the command line: without a sign, which Rust would take. What a number is for is not known
//! here.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;

use thiserror::Error;

/// A word is no number, or one that is too small or too large.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("it is no number from {0} to {1}")]
pub(crate) struct NumberError<T: Display>(T, T);

/// Parses a number of this `range`.
pub(crate) fn number<T>(
    range: RangeInclusive<T>,
) -> impl Fn(&str) -> Result<T, NumberError<T>> + Clone
where
    T: FromStr + PartialOrd + Display + Copy,
{
    move |word| {
        let number = word.parse().ok().filter(|_| !word.starts_with('+'));
        let number = number.filter(|number| range.contains(number));
        number.ok_or(NumberError(*range.start(), *range.end()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_one_of_the_range_without_a_sign() {
        let small = number(1_u16..=256);
        assert_eq!((small("1"), small("0256")), (Ok(1), Ok(256)));
        for word in [
            "+4", "-4", "0", "257", "65537", "", "4K", " 4", "4.0", "0x4",
        ] {
            let refusal = small(word).unwrap_err().to_string();
            assert_eq!(refusal, "it is no number from 1 to 256", "{word}");
        }
        let seconds = number(0.01..=3600.0);
        assert_eq!(seconds("1.5"), Ok(1.5));
        for word in ["+1", "-1", "nan", "inf", "0", "1s"] {
            assert!(seconds(word).is_err(), "{word}");
        }
    }
}
