//! The content of a tmpfs: an archive that criu unpacks as root.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read as _;
use std::path::{Component, Path};

use flate2::read::MultiGzDecoder;
use oci_spec::runtime::Spec;
use tar::EntryType;

use crate::error::{FitError, Problem};
use crate::image::named;

/// Most files and most bytes of one.
const MAX_FILES: usize = 1_000_000;
const MAX_BYTES: u64 = 64 << 30;

/// Devices that every container has: null, zero, full, random, urandom, tty, and the console's.
const COMMON: &[(u32, u32)] = &[
    (1, 3),
    (1, 5),
    (1, 7),
    (1, 8),
    (1, 9),
    (5, 0),
    (5, 1),
    (5, 2),
];

/// Checks one archive.
pub(crate) fn check(directory: &Path, name: &str, spec: &Spec) -> Result<(), FitError> {
    let path = directory.join(name);
    let file = File::open(&path).map_err(|source| FitError::Io {
        action: "open",
        path,
        source,
    })?;
    Ok(walk(file, &devices(spec)).map_err(named(name))?)
}

fn walk(file: File, devices: &BTreeSet<(u32, u32)>) -> Result<(), Problem> {
    let damaged = |error: std::io::Error| format!("it cannot be read: {error}");
    let mut archive = tar::Archive::new(MultiGzDecoder::new(file).take(MAX_BYTES));
    for (number, entry) in archive.entries().map_err(damaged)?.enumerate() {
        let entry = entry.map_err(damaged)?;
        if number > MAX_FILES {
            return Err("it has too many files".to_owned());
        }
        let path = entry.path().map_err(damaged)?;
        let shown = path.display().to_string();
        let leads_out = |path: &Path| {
            path.components()
                .any(|part| !matches!(part, Component::Normal(_) | Component::CurDir))
        };
        if leads_out(&path) {
            return Err(format!("{shown:?} leads out of it"));
        }
        let kind = entry.header().entry_type();
        match kind {
            EntryType::Char | EntryType::Block => {
                let number = |number: std::io::Result<Option<u32>>| number.map_err(damaged);
                let header = entry.header();
                let major = number(header.device_major())?.unwrap_or_default();
                let minor = number(header.device_minor())?.unwrap_or_default();
                if kind == EntryType::Block || !devices.contains(&(major, minor)) {
                    return Err(format!(
                        "{shown} is the device {major}:{minor}, which the container does not have"
                    ));
                }
            }
            EntryType::Link => {
                let target = entry.link_name().map_err(damaged)?.unwrap_or_default();
                if leads_out(&target) {
                    return Err(format!("{shown:?} is a link that leads out of it"));
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// Character devices that the container has.
fn devices(spec: &Spec) -> BTreeSet<(u32, u32)> {
    let linux = spec.linux().as_ref();
    let listed = linux.and_then(|linux| linux.devices().as_ref());
    let numbers = listed.into_iter().flatten().filter_map(|device| {
        let number = |number: i64| u32::try_from(number).ok();
        Some((number(device.major())?, number(device.minor())?))
    });
    numbers.chain(COMMON.iter().copied()).collect()
}
