//! Pages of the running program's file that are mapped into the process.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;

use crate::syscall::checked;

/// Gives back what is mapped of the running program's file, read-only: code and constants. What is needed again is mapped
/// again when it is touched, from the page cache. Returns how many bytes of addresses that were.
///
/// Most code of a start never runs again, and with each page that is touched the kernel maps those around it; all of them
/// count for the process, and none can be reclaimed easily.
///
/// # Errors
/// `/proc` is missing.
pub fn release() -> io::Result<usize> {
    let program = fs::metadata("/proc/self/exe")?;
    let mut released = 0;
    for line in fs::read_to_string("/proc/self/maps")?.lines() {
        let Some((start, length)) = read_only_part(line, &program) else {
            continue;
        };
        // SAFETY: the range is a mapping of a file that cannot be written to while it runs (ETXTBSY), and the mapping itself
        // is read-only, by its permissions of a moment ago and as nothing in this program ever changes those of its own
        // code: dropped pages come back with the same content.
        let dropped = unsafe { libc::madvise(start as *mut _, length, libc::MADV_DONTNEED) };
        if checked(libc::c_long::from(dropped)).is_ok() {
            released += length;
        }
    }
    Ok(released)
}

/// Start and length of a line's mapping if it is a read-only one of the file, by proc_pid_maps(5).
fn read_only_part(line: &str, program: &fs::Metadata) -> Option<(usize, usize)> {
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let permissions = fields.next()?;
    let (_offset, _device, inode) = (fields.next()?, fields.next()?, fields.next()?);
    let path = fields.next()?;
    let of_program = inode.parse() == Ok(program.ino()) && path.starts_with('/');
    if !of_program || permissions.contains('w') {
        return None;
    }
    let number = |text| usize::from_str_radix(text, 16).ok();
    let (start, end) = (number(start)?, number(end)?);
    Some((start, end.checked_sub(start)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_goes_on_without_its_pages() {
        let mapped = || {
            let text = fs::read_to_string("/proc/self/smaps_rollup").unwrap();
            let line = text.lines().find(|line| line.starts_with("Rss:")).unwrap();
            line.split_ascii_whitespace()
                .nth(1)
                .unwrap()
                .parse::<u64>()
                .unwrap()
        };
        let before = mapped();
        assert!(release().unwrap() > 0);
        let after = mapped();
        assert!(after < before, "{before} KiB, then {after} KiB");
    }

    #[test]
    fn only_read_only_mappings_of_the_program_count() {
        let program = fs::metadata("/proc/self/exe").unwrap();
        let ino = program.ino();
        let line = |permissions: &str, ino: u64, path: &str| {
            format!("1000-3000 {permissions} 00000000 fe:00 {ino} {path}")
        };
        let part = |line: String| read_only_part(&line, &program);
        assert_eq!(part(line("r-xp", ino, "/x")), Some((0x1000, 0x2000)));
        assert_eq!(part(line("rw-p", ino, "/x")), None);
        assert_eq!(part(line("r-xp", ino + 1, "/x")), None);
        assert_eq!(part(line("r-xp", 0, "[vdso]")), None);
        assert_eq!(part("1000-3000 rw-p 00000000 00:00 0".to_owned()), None);
    }
}
