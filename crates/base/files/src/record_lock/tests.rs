use super::*;
use crioxide_sys::locks::try_lock_file;
use std::sync::Arc;
use std::thread;

fn free_for(path: &Path, kind: LockKind) -> bool {
    let file = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    try_lock_file(&file, kind).unwrap()
}

#[test]
fn readers_share_and_the_last_one_unlocks() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sub/layers.lock");
    let lock = RecordLock::new(&path, LockAccess::ReadWrite);
    let first = lock.read().unwrap();
    let second = lock.read().unwrap();
    assert!(free_for(&path, LockKind::Shared));
    assert!(!free_for(&path, LockKind::Exclusive));
    drop(first);
    assert!(!free_for(&path, LockKind::Exclusive));
    drop(second);
    assert!(free_for(&path, LockKind::Exclusive));
}

#[test]
fn a_writer_excludes_other_processes_and_marks_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("images.lock");
    let lock = RecordLock::new(&path, LockAccess::ReadWrite);
    let before = lock.read().unwrap().token().unwrap();
    let guard = lock.write().unwrap();
    assert!(!free_for(&path, LockKind::Shared));
    let written = guard.touch().unwrap();
    assert_ne!(written, before);
    drop(guard);
    assert_eq!(lock.read().unwrap().token().unwrap(), written);
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 64);
}

#[test]
fn threads_never_write_at_the_same_time() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lock");
    let counter = dir.path().join("counter");
    std::fs::write(&counter, "0").unwrap();
    // Two objects for one file stand for two processes: only the file's lock excludes them.
    let locks = [(); 2].map(|()| Arc::new(RecordLock::new(&path, LockAccess::ReadWrite)));
    thread::scope(|scope| {
        for lock in locks.iter().flat_map(|lock| [lock, lock]) {
            scope.spawn(|| {
                for _ in 0..50 {
                    let _guard = lock.write().unwrap();
                    let value: u32 = std::fs::read_to_string(&counter).unwrap().parse().unwrap();
                    std::fs::write(&counter, (value + 1).to_string()).unwrap();
                }
            });
        }
    });
    assert_eq!(std::fs::read_to_string(&counter).unwrap(), "200");
}

#[test]
fn a_read_only_lock_needs_no_file_and_refuses_writers() {
    let lock = RecordLock::new("/nonexistent/layers.lock", LockAccess::ReadOnly);
    let guard = lock.read().unwrap();
    assert_eq!(
        guard.token().unwrap(),
        lock.read().unwrap().token().unwrap()
    );
    assert!(lock.write().is_err());
}

#[test]
fn a_hold_keeps_writers_of_other_processes_away_and_readers_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("storage.lock");
    let lock = RecordLock::new(&path, LockAccess::ReadWrite);
    let hold = lock.hold().unwrap();
    assert!(!free_for(&path, LockKind::Exclusive));
    assert!(free_for(&path, LockKind::Shared));
    drop(lock.read().unwrap());
    assert!(!free_for(&path, LockKind::Exclusive));
    thread::spawn(move || drop(hold)).join().unwrap();
    assert!(free_for(&path, LockKind::Exclusive));
}
