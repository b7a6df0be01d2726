//! Points in time and what servers write of them.

/// Milliseconds since 1970-01-01T00:00:00Z, by the host's wall clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// The point so many milliseconds later.
    pub fn plus_millis(self, millis: u64) -> Self {
        Self(self.0.saturating_add(millis))
    }

    /// The same moment by a server's clock, of which the host's is known, and how
    /// far the server's is ahead of it, in milliseconds.
    pub fn by_server(self, skew_millis: i64) -> Self {
        Self(self.0.saturating_add_signed(skew_millis))
    }

    /// The same moment by the host's clock, of which the server's is known.
    pub fn by_host(self, skew_millis: i64) -> Self {
        Self(self.0.saturating_add_signed(skew_millis.saturating_neg()))
    }

    /// How many milliseconds this point is after an earlier one; 0 if it is not.
    pub fn millis_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// Whole seconds since 1970, rounded down, so that an expiry never moves
    /// into the future by rounding.
    pub fn seconds(self) -> u64 {
        self.0 / 1000
    }

    /// The point at so many seconds since 1970.
    pub fn from_seconds(seconds: u64) -> Self {
        Self(seconds.saturating_mul(1000))
    }
}

/// Reads an HTTP-date in the one form that servers must send, such as
/// `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110 section 5.6.7). The obsolete forms
/// are not read: a date is only ever a hint here.
pub fn parse_http_date(text: &str) -> Option<Timestamp> {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let (_, date) = text.trim().split_once(", ")?;
    let mut parts = date.split(' ');
    let day: u64 = digits(parts.next()?, 2)?;
    let month_name = parts.next()?;
    let month = MONTHS.iter().position(|name| *name == month_name)? as u64 + 1;
    let year: u64 = digits(parts.next()?, 4)?;
    let mut clock = parts.next()?.split(':');
    let hour: u64 = digits(clock.next()?, 2)?;
    let minute: u64 = digits(clock.next()?, 2)?;
    let second: u64 = digits(clock.next()?, 2)?;
    if parts.next() != Some("GMT")
        || parts.next().is_some()
        || clock.next().is_some()
        || !(1..=31).contains(&day)
        || year < 1970
        || hour > 23
        || minute > 59
        || second > 60
    {
        return None;
    }
    let days = days_since_1970(year, month, day);
    Some(Timestamp::from_seconds(
        days * 86_400 + hour * 3600 + minute * 60 + second,
    ))
}

/// Reads a date and time as RFC 3339 section 5.6 writes it, such as
/// `2026-11-25T08:30:00.5+01:00`; fractions of a second are left out. Without an
/// offset it is taken to be UTC.
pub fn parse_date(text: &str) -> Option<Timestamp> {
    let bytes = text.as_bytes();
    let part = |from: usize, to: usize| number(bytes.get(from..to)?);
    let (year, month, day) = (part(0, 4)?, part(5, 7)?, part(8, 10)?);
    let (hour, minute, second) = (part(11, 13)?, part(14, 16)?, part(17, 19)?);
    let are_marks = [(4, b'-'), (7, b'-'), (13, b':'), (16, b':')]
        .iter()
        .all(|(at, mark)| bytes[*at] == *mark)
        && b"Tt ".contains(&bytes[10]);
    if !are_marks
        || year < 1970
        || !(1..=12).contains(&month)
        || !(1..=31).contains(&day)
        || hour > 23
        || minute > 59
        || second > 60
    {
        return None;
    }
    let mut rest = &bytes[19..];
    if let [b'.', fraction @ ..] = rest {
        rest = fraction;
        while let [b'0'..=b'9', after @ ..] = rest {
            rest = after;
        }
    }
    let utc = days_since_1970(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second;
    let seconds = match rest {
        [] | [b'Z' | b'z'] => utc,
        [sign @ (b'+' | b'-'), offset @ ..] => {
            let ([a, b, b':', c, d] | [a, b, c, d]) = offset else {
                return None;
            };
            let ahead = number(&[*a, *b])? * 3600 + number(&[*c, *d])? * 60;
            if *sign == b'+' {
                utc.checked_sub(ahead)?
            } else {
                utc + ahead
            }
        }
        _ => return None,
    };
    Some(Timestamp::from_seconds(seconds))
}

/// The number that digits make.
fn number(digits: &[u8]) -> Option<u64> {
    let mut number = 0;
    for digit in digits {
        number = number * 10 + u64::from(digit.checked_sub(b'0').filter(|digit| *digit < 10)?);
    }
    Some(number)
}

fn digits(text: &str, count: usize) -> Option<u64> {
    (text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit()))
        .then(|| text.parse().ok())
        .flatten()
}

/// Counts the days in eras of 400 years that begin in March, so that the leap
/// day is the last of its year.
fn days_since_1970(year: u64, month: u64, day: u64) -> u64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year / 400;
    let year_of_era = year % 400;
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_date_of_the_rfc_is_read() {
        let read = parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(read, Some(Timestamp::from_seconds(784_111_777)));
    }

    #[test]
    fn a_leap_day_is_read() {
        let read = parse_http_date("Thu, 29 Feb 2024 00:00:00 GMT");
        assert_eq!(read, Some(Timestamp::from_seconds(1_709_164_800)));
    }

    #[test]
    fn a_date_of_rfc_3339_is_read_with_its_offset() {
        let at = |seconds| Some(Timestamp::from_seconds(seconds));
        // RFC 3339 section 5.8.
        assert_eq!(parse_date("1985-04-12T23:20:50.52Z"), at(482_196_050));
        assert_eq!(parse_date("1996-12-19T16:39:57-08:00"), at(851_042_397));
        assert_eq!(parse_date("1996-12-20T01:39:57+0100"), at(851_042_397));
        assert_eq!(parse_date("1996-12-20 00:39:57"), at(851_042_397));
        for text in [
            "",
            "soon",
            "1996-12-20",
            "1996-13-20T00:00:00Z",
            "1996-12-20T24:00:00Z",
            "1996-12-20T00:00:00X",
            "1996-12-20T00:00:00+1",
            "1996-12-20T00:00:00+é1:00",
            "1996/12/20T00:00:00Z",
            "1996-12-2éT00:00:00Z",
            "0000-12-20T00:00:00Z",
        ] {
            assert_eq!(parse_date(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_no_date_is_not_read() {
        for text in [
            "",
            "yesterday",
            "Sun, 06 Nov 1994 08:49:37 CET",
            "Sun, 99 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 8:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun, 06 Nov 1994 08:49:37 GMT extra",
        ] {
            assert_eq!(parse_http_date(text), None, "{text}");
        }
    }
}
