//! The local calendar time of the node's time zone.

use std::mem::MaybeUninit;
use std::time::{SystemTime, UNIX_EPOCH};

/// A moment as the wall clock of the node shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LocalTime {
    /// Year, for example 2026.
    pub year: i32,
    /// Month, 1 to 12.
    pub month: u8,
    /// Day of the month, 1 to 31.
    pub day: u8,
    /// Hour, 0 to 23.
    pub hour: u8,
    /// Minute, 0 to 59.
    pub minute: u8,
    /// Second, 0 to 60.
    pub second: u8,
    /// Nanosecond of the second.
    pub nanosecond: u32,
    /// Seconds east of UTC.
    pub offset: i32,
}

impl LocalTime {
    /// `time` in the zone that `TZ` or `/etc/localtime` named when the process first asked.
    pub fn of(time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        // Of the type that localtime_r takes; naming it is deprecated on musl.
        let seconds = since.as_secs() as _;
        let mut parts = MaybeUninit::<libc::tm>::zeroed();
        // SAFETY: both pointers are valid for the call; localtime_r is thread-safe and keeps nothing. Neither std nor
        // rustix knows time zones.
        unsafe { libc::localtime_r(&raw const seconds, parts.as_mut_ptr()) };
        // SAFETY: all fields of `tm` are integers and a pointer that is not read, and all bytes were zeroed first.
        let parts = unsafe { parts.assume_init() };
        Self {
            year: parts.tm_year + 1900,
            month: (parts.tm_mon + 1) as u8,
            day: parts.tm_mday as u8,
            hour: parts.tm_hour as u8,
            minute: parts.tm_min as u8,
            second: parts.tm_sec as u8,
            nanosecond: since.subsec_nanos(),
            offset: parts.tm_gmtoff as i32,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn fields_are_those_of_the_moment() {
        let local = LocalTime::of(UNIX_EPOCH + Duration::new(1_700_000_000, 5));
        // 2023-11-14T22:13:20Z, shifted by whatever zone the test machine is in.
        let of_day =
            i64::from(local.hour) * 3600 + i64::from(local.minute) * 60 + i64::from(local.second);
        assert_eq!(
            (of_day - i64::from(local.offset)).rem_euclid(86_400),
            22 * 3600 + 13 * 60 + 20
        );
        assert_eq!((local.year, local.month, local.nanosecond), (2023, 11, 5));
        assert!((14..=15).contains(&local.day));
    }
}
