//! Signal names and numbers.

use crioxide_cri_api::v1;

/// Sent when nothing else, or nothing readable, is asked for.
pub const SIGTERM: i32 = 15;
const SIGRTMIN: i32 = 34;
const SIGRTMAX: i32 = 64;

/// Names of the standard signals 1 to 31, by number.
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
    "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
    "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

/// The number of a signal written as `15`, `TERM`, `SIGTERM`, `RTMIN+3`, `SIGRTMAX-2` or, as in the CRI, `SIGRTMINPLUS3`.
#[must_use]
pub fn parse(text: &str) -> Option<i32> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text
            .parse()
            .ok()
            .filter(|number| (1..=SIGRTMAX).contains(number));
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(index) = NAMES.iter().position(|known| *known == name) {
        return i32::try_from(index).ok().map(|index| index + 1);
    }
    match name {
        "IOT" => Some(6),
        "CLD" => Some(17),
        "POLL" => Some(29),
        "RTMIN" => Some(SIGRTMIN),
        "RTMAX" => Some(SIGRTMAX),
        _ => real_time(name),
    }
}

/// The signal that stops a container: the request's, else the image's, else `SIGTERM`.
///
/// Names nobody knows also give `SIGTERM`.
#[must_use]
pub fn choose(requested: v1::Signal, image: &str) -> i32 {
    let name = match requested {
        v1::Signal::RuntimeDefault => image,
        signal => signal.as_str_name(),
    };
    parse(name).unwrap_or(SIGTERM)
}

fn real_time(name: &str) -> Option<i32> {
    let offset = |prefixes: [&str; 2]| {
        prefixes
            .iter()
            .find_map(|prefix| name.strip_prefix(prefix))
            .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))
            .and_then(|text| text.parse::<i32>().ok())
    };
    let number = match (
        offset(["RTMIN+", "RTMINPLUS"]),
        offset(["RTMAX-", "RTMAXMINUS"]),
    ) {
        (Some(above), _) => SIGRTMIN.checked_add(above)?,
        (None, Some(below)) => SIGRTMAX.checked_sub(below)?,
        (None, None) => return None,
    };
    (SIGRTMIN..=SIGRTMAX).contains(&number).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_spellings() {
        for (text, number) in [
            ("TERM", 15),
            ("SIGKILL", 9),
            ("sigint", 2),
            ("9", 9),
            ("SIGSYS", 31),
            ("RTMIN", 34),
            ("SIGRTMIN+3", 37),
            ("SIGRTMINPLUS3", 37),
            ("RTMAX-1", 63),
            ("SIGRTMAXMINUS14", 50),
            ("SIGPOLL", 29),
        ] {
            assert_eq!(parse(text), Some(number), "{text}");
        }
        for text in [
            "",
            "0",
            "65",
            "SIGRTMIN+31",
            "SIGRTMAX-31",
            "SIGFOO",
            "-1",
            "RTMIN+",
            "RTMIN+-1",
            "99999999999999",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn every_cri_signal_has_a_number() {
        for value in 1.. {
            let Ok(signal) = v1::Signal::try_from(value) else {
                break;
            };
            assert!(
                parse(signal.as_str_name()).is_some(),
                "{}",
                signal.as_str_name()
            );
        }
    }

    #[test]
    fn request_beats_image() {
        assert_eq!(choose(v1::Signal::Sigusr1, "SIGQUIT"), 10);
        assert_eq!(choose(v1::Signal::RuntimeDefault, "SIGQUIT"), 3);
        assert_eq!(choose(v1::Signal::RuntimeDefault, ""), 15);
        assert_eq!(choose(v1::Signal::RuntimeDefault, "nonsense"), 15);
    }
}
