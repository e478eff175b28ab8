//! The processors that a further process of a container may use.

use std::io;

use rustix::thread::{CpuSet, sched_setaffinity};

use crate::setup_error::{SetupError, step};

/// Binds this process to the processors of a list such as `0-3,7`; those that the node does not have are left out.
pub(crate) fn bind(list: &str) -> Result<(), SetupError> {
    let set = parse(list).ok_or(io::Error::from(io::ErrorKind::InvalidInput));
    set.and_then(|set| Ok(sched_setaffinity(None, &set)?))
        .map_err(step("bind the process to processors"))
}

fn parse(list: &str) -> Option<CpuSet> {
    let mut set = CpuSet::new();
    for range in list.split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (usize, usize) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        if first > last || last >= CpuSet::MAX_CPU {
            return None;
        }
        (first..=last).for_each(|cpu| set.set(cpu));
    }
    Some(set)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_processors() {
        let cpus = |list| {
            parse(list).map(|set| {
                (0..CpuSet::MAX_CPU)
                    .filter(|cpu| set.is_set(*cpu))
                    .collect::<Vec<_>>()
            })
        };
        for (list, expected) in [
            ("0", Some(vec![0])),
            ("0-2,7", Some(vec![0, 1, 2, 7])),
            ("3-1", None),
            ("", None),
            ("99999", None),
        ] {
            assert_eq!(cpus(list), expected, "{list:?}");
        }
    }
}
