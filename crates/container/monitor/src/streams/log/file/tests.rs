use super::*;
use std::os::unix::fs::PermissionsExt;

fn lines(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| line.split_once(' ').unwrap().1.to_owned())
        .collect()
}

fn write(log: &mut LogFile, stream: Stream, text: &str) {
    log.write(stream, SystemTime::now(), text.as_bytes());
}

#[test]
fn full_and_partial_lines() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let mut log = LogFile::open(&path, None).unwrap();
    write(&mut log, Stream::Stdout, "one\ntwo");
    write(&mut log, Stream::Stderr, "err\n");
    write(&mut log, Stream::Stdout, "\n");
    assert_eq!(
        lines(&path),
        ["stdout F one", "stdout P two", "stderr F err", "stdout F "]
    );
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o640);
}

#[test]
fn more_lines_than_one_gathered_write_takes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let mut log = LogFile::open(&path, None).unwrap();
    write(&mut log, Stream::Stdout, &"\n".repeat(8192));
    assert_eq!(lines(&path).len(), 8192);
    let first = std::fs::read_to_string(&path).unwrap();
    let stamps: std::collections::BTreeSet<&str> = first
        .lines()
        .map(|line| line.split_once(' ').unwrap().0)
        .collect();
    assert_eq!(stamps.len(), 1, "all lines of one read share the time");
}

#[test]
fn reopening_continues_at_the_path() {
    let dir = tempfile::tempdir().unwrap();
    let (path, rotated) = (dir.path().join("log"), dir.path().join("log.1"));
    let mut log = LogFile::open(&path, None).unwrap();
    write(&mut log, Stream::Stdout, "before\n");
    std::fs::rename(&path, &rotated).unwrap();
    write(&mut log, Stream::Stdout, "between\n");
    log.reopen().unwrap();
    write(&mut log, Stream::Stdout, "after\n");
    assert_eq!(lines(&rotated), ["stdout F before", "stdout F between"]);
    assert_eq!(lines(&path), ["stdout F after"]);
}

#[test]
fn a_size_limit_starts_the_file_anew() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let mut log = LogFile::open(&path, Some(150)).unwrap();
    for number in 0..10 {
        write(&mut log, Stream::Stdout, &format!("line {number}\n"));
        assert!(path.metadata().unwrap().len() <= 150);
    }
    assert_eq!(lines(&path).last().unwrap(), "stdout F line 9");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn a_symlink_is_not_followed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    std::os::unix::fs::symlink("/etc/passwd", &path).unwrap();
    assert!(LogFile::open(&path, None).is_err());
}

/// `/dev/full` refuses every byte; the file that takes its place gets what is owed, in order.
#[test]
fn a_full_disk_delays_records_and_never_tears_them() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let mut log = LogFile::open(&path, None).unwrap();
    log.file = Some(OpenOptions::new().write(true).open("/dev/full").unwrap());
    write(&mut log, Stream::Stdout, "owed 1\nowed 2\n");
    assert!(log.is_behind());
    for _ in 0..100 {
        write(&mut log, Stream::Stdout, &format!("{}\n", "x".repeat(8000)));
    }
    assert!(log.lost() > 0);
    assert!(log.backlog.len() <= BACKLOG_LIMIT);
    log.file = Some(open(&path).unwrap());
    assert!(log.retry());
    write(&mut log, Stream::Stdout, "after\n");
    let lines = lines(&path);
    assert_eq!(lines[..2], ["stdout F owed 1", "stdout F owed 2"]);
    assert_eq!(lines.last().unwrap(), "stdout F after");
    assert!(lines.iter().all(|line| line.starts_with("stdout F ")));
}

#[test]
fn half_a_record_is_told_from_whole_ones() {
    let slices = [&b"t F "[..], b"one\n", b"t P ", b"two", b"\n"].map(IoSlice::new);
    let torn: Vec<usize> = (0..=16)
        .map(|written| torn_bytes(&slices, written))
        .collect();
    assert_eq!(torn, [0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3, 4, 5, 6, 7, 0]);
}

#[test]
fn half_a_record_is_taken_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    std::fs::write(&path, "t F one\nt F tw").unwrap();
    let file = open(&path).unwrap();
    assert_eq!(take_back(&file, 6), 6);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "t F one\n");
    // Somebody else shortened it meanwhile.
    assert_eq!(take_back(&file, 9), 0);
    assert_eq!(path.metadata().unwrap().len(), 8);
}
