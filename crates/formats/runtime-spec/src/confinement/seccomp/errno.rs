//! Error names that profiles may use instead of numbers.

/// Names and numbers as on x86 and ARM.
const NAMES: [(&str, u32); 24] = [
    ("EPERM", 1),
    ("ENOENT", 2),
    ("ESRCH", 3),
    ("EINTR", 4),
    ("EIO", 5),
    ("ENXIO", 6),
    ("E2BIG", 7),
    ("ENOEXEC", 8),
    ("EBADF", 9),
    ("EAGAIN", 11),
    ("ENOMEM", 12),
    ("EACCES", 13),
    ("EFAULT", 14),
    ("EBUSY", 16),
    ("EEXIST", 17),
    ("ENODEV", 19),
    ("EINVAL", 22),
    ("ENOTTY", 25),
    ("ENOSPC", 28),
    ("EROFS", 30),
    ("ENOSYS", 38),
    ("EOVERFLOW", 75),
    ("EOPNOTSUPP", 95),
    ("EAFNOSUPPORT", 97),
];

/// The number of an error given by name or in digits.
pub(super) fn parse(text: &str) -> Option<u32> {
    text.parse().ok().or_else(|| {
        NAMES
            .iter()
            .find(|(name, _)| *name == text)
            .map(|(_, number)| *number)
    })
}
