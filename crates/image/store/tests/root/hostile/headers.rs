//! Headers that contradict themselves or each other, and numbers that are none.

use super::Case;
use super::Wanted::{Refused, Same};
use super::archive::{Header, Tar, pax_records};

pub(super) fn cases() -> Vec<Case> {
    let mut cases = numbers();
    cases.extend(types());
    cases.extend(extensions());
    cases.extend(formats());
    cases
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn numbers() -> Vec<Case> {
    let tar = Tar::default;
    let file = || Header::file("f", b"12345");
    let with = |header: Header| tar().add(header, b"12345").end();
    vec![
        ("a binary size", with(file().binary(124..136, 5)), Same),
        (
            "a size with blanks",
            with(file().bytes(124, "         5 \0")),
            Same,
        ),
        (
            "a negative size",
            with(file().binary(124..136, -5)),
            Refused("size is no number"),
        ),
        (
            "a size of 2^62",
            with(file().binary(124..136, 1 << 62)),
            Refused("ends early"),
        ),
        (
            "a size of 2^63-1",
            with(file().binary(124..136, (1 << 63) - 1)),
            Refused("impossible"),
        ),
        (
            "a size of 2^80",
            with(file().binary(124..136, 1 << 80)),
            Refused("size is no number"),
        ),
        (
            "a size that is text",
            with(file().bytes(124, "five")),
            Refused("size is no number"),
        ),
        (
            "a large owner",
            with(file().binary(108..116, 3_000_000_000)),
            Same,
        ),
        (
            "a negative owner",
            with(file().binary(108..116, -1)),
            Refused("user id"),
        ),
        (
            "an owner that means none",
            with(file().binary(108..116, u32::MAX.into())),
            Refused("user id"),
        ),
        (
            "a group that means none",
            tar()
                .pax(&[("gid", "4294967295")])
                .add(file(), b"12345")
                .end(),
            Refused("group id"),
        ),
        (
            "an owner of 33 bits",
            tar()
                .pax(&[("uid", "4294967296")])
                .add(file(), b"12345")
                .end(),
            Refused("user id"),
        ),
        (
            "a mode with a file type",
            with(file().mode(0o0_104_755)),
            Same,
        ),
        (
            "a mode that is text",
            with(file().bytes(100, "rwxr-x")),
            Refused("no number"),
        ),
        (
            "a time before 1970",
            with(file().binary(136..148, -1_000_000)),
            Same,
        ),
        (
            "a time of 2^40",
            with(file().binary(136..148, 1 << 40)),
            Same,
        ),
        (
            "a time of 2^70",
            with(file().binary(136..148, 1 << 70)),
            Refused("no number"),
        ),
        (
            "a time with a fraction",
            tar().pax(&[("mtime", "-1.25")]).add(file(), b"12345").end(),
            Same,
        ),
        (
            "a time that is text",
            tar().pax(&[("mtime", "1e9")]).add(file(), b"12345").end(),
            Refused("time"),
        ),
        (
            "a wrong checksum",
            tar().summed(file(), 1, b"12345").end(),
            Refused("checksum"),
        ),
        (
            "a checksum of signed bytes",
            tar()
                .add_signed(Header::file(b"f\xff\xfe", b"12345"), b"12345")
                .end(),
            Same,
        ),
    ]
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn types() -> Vec<Case> {
    let tar = Tar::default;
    let of = |header: Header| tar().add(header, b"").end();
    vec![
        (
            "a device",
            of(Header::new(b'3', "n").device(1, 3).mode(0o666)),
            Same,
        ),
        (
            "a disk",
            of(Header::new(b'4', "n").device(7, 300).owner(0, 6)),
            Same,
        ),
        ("a pipe", of(Header::new(b'6', "n")), Same),
        (
            "a device whose number does not fit",
            of(Header::new(b'3', "n").device(4097, 3)),
            Refused("device number"),
        ),
        (
            "a minor number that does not fit",
            of(Header::new(b'4', "n").device(8, 1 << 20)),
            Refused("device number"),
        ),
        (
            "a negative device",
            of(Header::new(b'3', "n").binary(329..337, -1)),
            Refused("device number"),
        ),
        (
            "a file of a contiguous kind",
            tar()
                .add(Header::file("f", b"x").bytes(156, "7"), b"x")
                .end(),
            Same,
        ),
        (
            "an unknown type",
            of(Header::new(b'Z', "n")),
            Refused("unknown type"),
        ),
        (
            "a volume label",
            of(Header::new(b'V', "n").gnu()),
            Refused("unknown type"),
        ),
        (
            "the rest of a file of another volume",
            of(Header::new(b'M', "n").gnu()),
            Refused("unknown type"),
        ),
        (
            "a directory of the first kind",
            of(Header::new(0, "d/").v7()),
            Same,
        ),
        (
            "a file that ends like a directory",
            tar().file("d/", "x").end(),
            Refused("directory"),
        ),
        (
            "an empty file that ends like a directory",
            tar().file("d/", "").end(),
            Refused("directory"),
        ),
        (
            "a directory of the first kind with content",
            tar()
                .add(Header::file("d/", b"x").bytes(156, [0]).v7(), b"x")
                .end(),
            Refused("content"),
        ),
        (
            "a directory with content",
            tar().add(Header::new(b'5', "d").size(1), b"x").end(),
            Refused("content"),
        ),
        (
            "a symlink with content",
            tar()
                .add(Header::new(b'2', "s").link("t").size(1), b"x")
                .end(),
            Refused("content"),
        ),
        (
            "a device with content",
            tar()
                .add(Header::new(b'3', "n").device(1, 3).size(1), b"x")
                .end(),
            Refused("content"),
        ),
        (
            "a pipe with content",
            tar().add(Header::new(b'6', "n").size(1), b"x").end(),
            Refused("content"),
        ),
        (
            "a symlink with content by PAX",
            tar()
                .pax(&[("size", "512")])
                .symlink("s", "t")
                .file("f", "x")
                .end(),
            Refused("content"),
        ),
        (
            "a hard link with content by PAX",
            tar()
                .file("f", "x")
                .pax(&[("size", "512")])
                .hard("h", "f")
                .file("g", "y")
                .end(),
            Refused("content"),
        ),
        (
            "a symlink to nothing",
            tar().symlink("s", "").end(),
            Refused("s"),
        ),
        (
            "a symlink whose target is too long",
            tar().long(b'K', "t".repeat(5000)).symlink("s", "x").end(),
            Refused("s"),
        ),
    ]
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn extensions() -> Vec<Case> {
    let tar = Tar::default;
    let megabyte = "c".repeat(1 << 20);
    vec![
        (
            "another name by PAX",
            tar().pax(&[("path", "right")]).file("wrong", "x").end(),
            Same,
        ),
        (
            "another target by PAX",
            tar()
                .pax(&[("linkpath", "right")])
                .symlink("s", "wrong")
                .end(),
            Same,
        ),
        (
            "another size by PAX",
            tar()
                .pax(&[("size", "5")])
                .add(Header::new(b'0', "f"), b"12345")
                .end(),
            Same,
        ),
        (
            "no size by PAX",
            tar()
                .pax(&[("size", "0")])
                .add(Header::file("f", b""), b"")
                .end(),
            Same,
        ),
        (
            "a smaller size by PAX",
            tar()
                .pax(&[("size", "0")])
                .add(Header::file("f", b"12345"), b"")
                .end(),
            Same,
        ),
        (
            "a name that leads out by PAX",
            tar().pax(&[("path", "../evil")]).file("f", "x").end(),
            Refused("leads out"),
        ),
        (
            "a name with a NUL by PAX",
            tar()
                .extension(b'x', b"12 path=a\0b\n")
                .file("f", "x")
                .end(),
            Refused("NUL"),
        ),
        (
            "a name twice by PAX",
            tar()
                .pax(&[("path", "a"), ("path", "b")])
                .file("f", "x")
                .end(),
            Same,
        ),
        (
            "an empty name by PAX",
            tar().pax(&[("path", "")]).file("f", "x").end(),
            Refused("empty"),
        ),
        (
            "two PAX headers",
            tar()
                .pax(&[("path", "a")])
                .pax(&[("mtime", "5")])
                .file("f", "x")
                .end(),
            Refused("two"),
        ),
        (
            "a PAX header at the end",
            tar().file("f", "x").pax(&[("path", "a")]).end(),
            Refused("ends early"),
        ),
        (
            "a PAX record that is too long",
            tar().extension(b'x', b"99 path=a\n").file("f", "x").end(),
            Refused("length"),
        ),
        (
            "a PAX record without a line's end",
            tar().extension(b'x', b"9 path=ab").file("f", "x").end(),
            Refused("PAX record"),
        ),
        (
            "a PAX record of nothing",
            tar().extension(b'x', b"0 path=a\n").file("f", "x").end(),
            Refused("length"),
        ),
        (
            "a large PAX header",
            tar()
                .pax(&[("comment", &megabyte[..900_000])])
                .file("f", "x")
                .end(),
            Same,
        ),
        (
            "a PAX header too large",
            tar().pax(&[("comment", &megabyte)]).file("f", "x").end(),
            Refused("limit"),
        ),
        (
            "a PAX header of an exabyte",
            tar()
                .add(Header::new(b'x', "x").binary(124..136, 1 << 60), b"")
                .end(),
            Refused("limit"),
        ),
        (
            "a comment for all",
            tar()
                .global(&[("comment", "0123456789abcdef")])
                .file("f", "x")
                .end(),
            Same,
        ),
        (
            "a name for all",
            tar().global(&[("path", "evil")]).file("f", "x").end(),
            Refused("global"),
        ),
        (
            "an owner for all",
            tar().global(&[("uid", "0")]).file("f", "x").end(),
            Refused("global"),
        ),
        (
            "a long name",
            tar().long(b'L', "n".repeat(200)).file("short", "x").end(),
            Same,
        ),
        (
            "a long name with more behind it",
            tar().long(b'L', "name\0rest").file("short", "x").end(),
            Same,
        ),
        (
            "a long name that leads out",
            tar().long(b'L', "../evil").file("short", "x").end(),
            Refused("leads out"),
        ),
        (
            "an empty long name",
            tar().long(b'L', "").file("short", "x").end(),
            Refused("empty"),
        ),
        (
            "two long names",
            tar()
                .long(b'L', "one")
                .long(b'L', "two")
                .file("short", "x")
                .end(),
            Refused("two"),
        ),
        (
            "a long name and another by PAX",
            tar()
                .pax(&[("path", "pax")])
                .long(b'L', "gnu")
                .file("f", "x")
                .end(),
            Refused("disagree"),
        ),
        (
            "a PAX name and another by GNU",
            tar()
                .long(b'L', "gnu")
                .pax(&[("path", "pax")])
                .file("f", "x")
                .end(),
            Refused("disagree"),
        ),
        (
            "two targets",
            tar()
                .long(b'K', "gnu")
                .pax(&[("linkpath", "pax")])
                .symlink("s", "x")
                .end(),
            Refused("disagree"),
        ),
        (
            "a long name at the end",
            tar().file("f", "x").long(b'L', "name").end(),
            Refused("ends early"),
        ),
        (
            "a long name of a gigabyte",
            tar()
                .add(Header::new(b'L', "x").gnu().size(1 << 30), b"")
                .end(),
            Refused("limit"),
        ),
        (
            "an attribute",
            tar()
                .pax(&[("SCHILY.xattr.user.a", "v=\u{1}")])
                .file("f", "x")
                .end(),
            Same,
        ),
        (
            "an attribute twice",
            tar()
                .pax(&[("SCHILY.xattr.user.a", "1"), ("SCHILY.xattr.user.a", "2")])
                .file("f", "x")
                .end(),
            Same,
        ),
        (
            "an attribute with an escaped name",
            tar()
                .pax(&[("SCHILY.xattr.user.a%3Db", "1")])
                .file("f", "x")
                .end(),
            Refused("attribute"),
        ),
        (
            "an attribute of no kind",
            tar()
                .pax(&[("SCHILY.xattr.nonsense", "1")])
                .file("f", "x")
                .end(),
            Same,
        ),
        (
            "an attribute that is too large",
            tar()
                .pax(&[("SCHILY.xattr.user.a", &megabyte[..70_000])])
                .file("f", "x")
                .end(),
            Refused("attribute"),
        ),
        (
            "a flood of attributes",
            tar().extension(b'x', &flood()).file("f", "x").end(),
            Refused("limit"),
        ),
        (
            "an attribute that steers overlayfs",
            tar()
                .pax(&[("SCHILY.xattr.trusted.overlay.redirect", "/evil")])
                .directory("d")
                .end(),
            Same,
        ),
        (
            "capabilities",
            tar().extension(b'x', &capability()).file("f", "x").end(),
            Same,
        ),
    ]
}

fn flood() -> Vec<u8> {
    let names: Vec<_> = (0..30_000)
        .map(|number| format!("SCHILY.xattr.user.{number}"))
        .collect();
    let records: Vec<_> = names.iter().map(|name| (name.as_str(), "")).collect();
    pax_records(&records)
}

/// `cap_net_raw=ep`.
fn capability() -> Vec<u8> {
    let value = [
        1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    ];
    let key = b"SCHILY.xattr.security.capability=";
    let length = (key.len() + value.len() + "56 \n".len()).to_string();
    [length.as_bytes(), b" ", key, &value, b"\n"].concat()
}

fn formats() -> Vec<Case> {
    let tar = Tar::default;
    let of = |header: Header| tar().add(header, b"x").end();
    let file = |name: &str| Header::file(name, b"x");
    vec![
        ("a prefix", of(file("f").bytes(345, "a/b")), Same),
        (
            "a prefix that leads out",
            of(file("evil").bytes(345, "..")),
            Refused("leads out"),
        ),
        (
            "a full prefix",
            of(file("f").bytes(345, "p".repeat(155))),
            Same,
        ),
        ("a full name", of(file(&"n".repeat(100))), Same),
        (
            "a prefix where GNU has times",
            of(file("f").gnu().bytes(345, "00000000000")),
            Same,
        ),
        (
            "a prefix without a format",
            of(file("f").v7().bytes(345, "a/b")),
            Same,
        ),
        (
            "a prefix of star",
            of(file("f").bytes(345, "a/b").bytes(508, "tar\0")),
            Same,
        ),
        (
            "a prefix too long for star",
            of(file("f").bytes(345, "p".repeat(140)).bytes(508, "tar\0")),
            Refused("star"),
        ),
        (
            "an unknown version of ustar",
            of(file("f").bytes(257, "ustar\0zz").bytes(345, "a")),
            Same,
        ),
    ]
}
