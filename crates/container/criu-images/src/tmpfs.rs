//! The content of a tmpfs: an archive that criu has `tar` unpack as root.
//!
//! Readers of archives differ, so what was checked is packed anew.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Component, Path};

use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use oci_spec::runtime::Spec;
use tar::{Archive, Builder, Entry, EntryType, Header};

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

type Devices = BTreeSet<(u32, u32)>;

/// Checks one archive and packs it anew.
pub(crate) fn fit(directory: &Path, name: &str, spec: &Spec) -> Result<(), FitError> {
    let path = directory.join(name);
    // No image has such a name, and it is in a directory of ours.
    let fresh = directory.join(".packing");
    let failed = |action| {
        let path = path.clone();
        move |source| FitError::Io {
            action,
            path,
            source,
        }
    };
    let file = File::open(&path).map_err(failed("open"))?;
    let target = File::create(&fresh).map_err(failed("make the place of"))?;
    pack(file, target, &devices(spec)).map_err(named(name))?;
    fs::rename(&fresh, &path).map_err(failed("replace"))
}

fn pack(file: File, target: File, devices: &Devices) -> Result<(), Problem> {
    let damaged = |error: io::Error| format!("it cannot be read: {error}");
    let written = |error: io::Error| format!("it cannot be packed anew: {error}");
    let mut archive = Archive::new(MultiGzDecoder::new(file).take(MAX_BYTES));
    let mut fresh = Builder::new(GzEncoder::new(target, Compression::fast()));
    for (number, entry) in archive.entries().map_err(damaged)?.enumerate() {
        let entry = entry.map_err(damaged)?;
        if number > MAX_FILES {
            return Err("it has too many files".to_owned());
        }
        check(&entry, devices)?;
        append(&mut fresh, entry).map_err(written)?;
    }
    let encoder = fresh.into_inner().map_err(written)?;
    let mut target = encoder.finish().map_err(written)?;
    target.flush().map_err(written)
}

fn check(entry: &Entry<'_, impl io::Read>, devices: &Devices) -> Result<(), Problem> {
    let damaged = |error: io::Error| format!("it cannot be read: {error}");
    let path = entry.path().map_err(damaged)?;
    let shown = path.display().to_string();
    let leads_out = |path: &Path| {
        path.components()
            .any(|part| !matches!(part, Component::Normal(_) | Component::CurDir))
    };
    if leads_out(&path) {
        return Err(format!("{shown:?} leads out of it"));
    }
    let header = entry.header();
    match header.entry_type() {
        EntryType::Char => {
            let number = |number: io::Result<Option<u32>>| number.map_err(damaged);
            let major = number(header.device_major())?.unwrap_or_default();
            let minor = number(header.device_minor())?.unwrap_or_default();
            match devices.contains(&(major, minor)) {
                true => Ok(()),
                false => Err(format!(
                    "{shown} is the device {major}:{minor}, which the container does not have"
                )),
            }
        }
        EntryType::Link => {
            let target = entry.link_name().map_err(damaged)?.unwrap_or_default();
            match leads_out(&target) {
                true => Err(format!("{shown:?} is a link that leads out of it")),
                false => Ok(()),
            }
        }
        EntryType::Regular
        | EntryType::GNUSparse
        | EntryType::Directory
        | EntryType::Symlink
        | EntryType::Fifo => Ok(()),
        EntryType::Block => Err(format!("{shown} is a disk")),
        _ => Err(format!("{shown} is of an unknown kind")),
    }
}

fn append(
    fresh: &mut Builder<impl io::Write>,
    mut entry: Entry<'_, impl io::Read>,
) -> io::Result<()> {
    let old = entry.header();
    let kind = match old.entry_type() {
        EntryType::GNUSparse => EntryType::Regular,
        kind => kind,
    };
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(old.mode()?);
    header.set_uid(old.uid()?);
    header.set_gid(old.gid()?);
    header.set_mtime(old.mtime()?);
    header.set_size(0);
    if kind == EntryType::Char {
        header.set_device_major(old.device_major()?.unwrap_or_default())?;
        header.set_device_minor(old.device_minor()?.unwrap_or_default())?;
    }
    let path = entry.path()?.into_owned();
    match kind {
        EntryType::Link | EntryType::Symlink => {
            let target = entry.link_name()?.unwrap_or_default().into_owned();
            fresh.append_link(&mut header, path, target)
        }
        EntryType::Regular => {
            header.set_size(entry.size());
            fresh.append_data(&mut header, path, &mut entry)
        }
        _ => fresh.append_data(&mut header, path, io::empty()),
    }
}

/// Character devices that the container has.
fn devices(spec: &Spec) -> Devices {
    let linux = spec.linux().as_ref();
    let listed = linux.and_then(|linux| linux.devices().as_ref());
    let numbers = listed.into_iter().flatten().filter_map(|device| {
        let number = |number: i64| u32::try_from(number).ok();
        Some((number(device.major())?, number(device.minor())?))
    });
    numbers.chain(COMMON.iter().copied()).collect()
}
