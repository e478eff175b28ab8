//! Names and links that lead elsewhere.

use super::Case;
use super::Wanted::{Names, Refused, Same};
use super::archive::{Header, Tar};

/// `outside` is a directory of the host with a file `secret`.
pub(super) fn cases(outside: &str) -> Vec<Case> {
    let mut cases = plain(outside);
    cases.extend(through_symlinks(outside));
    cases.extend(hard_links(outside));
    cases.extend(replaced(outside));
    cases
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn plain(outside: &str) -> Vec<Case> {
    let tar = Tar::default;
    vec![
        (
            "dot-dot",
            tar().file("../evil", "x").end(),
            Refused("leads out"),
        ),
        (
            "dot-dot inside",
            tar().file("a/../../evil", "x").end(),
            Refused("leads out"),
        ),
        (
            "dot-dot alone",
            tar().directory("..").end(),
            Refused("leads out"),
        ),
        (
            "absolute dot-dot",
            tar().file("/../evil", "x").end(),
            Refused("leads out"),
        ),
        (
            "many dot-dots",
            tar().file("../".repeat(30) + "evil", "x").end(),
            Refused("leads out"),
        ),
        (
            "dot-dot that stays inside",
            tar().directory("a/").file("a/../b", "x").end(),
            Names(&["a", "b"]),
        ),
        ("absolute", tar().file("/crioxide-evil", "x").end(), Same),
        (
            "absolute, of the host",
            tar().file(format!("{outside}/secret"), "x").end(),
            Same,
        ),
        (
            "slashes and dots",
            tar().directory("./a//").file(".//a/././b", "x").end(),
            Same,
        ),
        (
            "no name",
            tar().file("", "x").end(),
            Refused("root of the layer"),
        ),
        (
            "a file as the root",
            tar().file(".", "x").end(),
            Refused("root of the layer"),
        ),
        (
            "a symlink as the root",
            tar().symlink(".", outside).end(),
            Refused("root of the layer"),
        ),
        (
            "the root itself",
            tar()
                .add(Header::new(b'5', "./").mode(0o1750).owner(5, 6), b"")
                .end(),
            Same,
        ),
        (
            "odd bytes",
            tar().file(b"\xff\xfe\n\t\x7f \\ \"", "x").end(),
            Same,
        ),
        (
            "a name of 255 bytes",
            tar()
                .pax(&[("path", &"n".repeat(255))])
                .file("x", "x")
                .end(),
            Same,
        ),
        (
            "a name too long for the system",
            tar()
                .pax(&[("path", &"n".repeat(256))])
                .file("x", "x")
                .end(),
            Refused("nnn"),
        ),
        (
            "a path too long for the system",
            tar()
                .pax(&[("path", &"n/".repeat(2100))])
                .directory("x")
                .end(),
            Refused("n/n/n"),
        ),
        (
            "deep",
            tar()
                .pax(&[("path", &"d/".repeat(400))])
                .directory("x")
                .end(),
            Same,
        ),
    ]
}

fn through_symlinks(outside: &str) -> Vec<Case> {
    let tar = Tar::default;
    let up = "../".repeat(20) + outside;
    let deep = "d/".repeat(400);
    vec![
        (
            "a file behind an absolute link",
            tar()
                .symlink("escape", outside)
                .file("escape/evil", "x")
                .end(),
            Refused("escape"),
        ),
        (
            "a file behind a relative link",
            tar().symlink("escape", &up).file("escape/evil", "x").end(),
            Refused("escape"),
        ),
        (
            "directories behind a link",
            tar()
                .symlink("escape", outside)
                .directory("escape/a/b/")
                .end(),
            Refused("escape"),
        ),
        (
            "a file behind a link to the root",
            tar().symlink("escape", "/").file("escape/evil", "x").end(),
            Names(&["escape", "evil"]),
        ),
        (
            "a file behind a link inside",
            tar()
                .directory("real/")
                .symlink("link", "real")
                .file("link/file", "x")
                .end(),
            Same,
        ),
        (
            "a link through a link",
            tar()
                .symlink("one", "/")
                .symlink("one/two", &up)
                .file("one/two/evil", "x")
                .end(),
            Refused("two"),
        ),
        (
            "a loop of links",
            tar()
                .symlink("a", "b")
                .symlink("b", "a")
                .file("a/file", "x")
                .end(),
            Refused("a"),
        ),
        (
            "a device behind a link",
            tar()
                .symlink("escape", outside)
                .add(Header::new(b'3', "escape/null").device(1, 3), b"")
                .end(),
            Refused("escape"),
        ),
        (
            "a link into procfs",
            tar()
                .symlink("escape", "/proc/self/cwd")
                .file("escape/evil", "x")
                .end(),
            Refused("escape"),
        ),
        (
            "deeper than a path can be",
            tar()
                .pax(&[("path", &deep)])
                .directory("x")
                .pax(&[("linkpath", &deep)])
                .symlink("s", "x")
                .pax(&[("path", &format!("s/{deep}"))])
                .directory("x")
                .end(),
            Refused("deep"),
        ),
    ]
}

fn hard_links(outside: &str) -> Vec<Case> {
    let tar = Tar::default;
    let secret = format!("{outside}/secret");
    vec![
        (
            "a hard link to the host",
            tar().hard("stolen", &secret).end(),
            Refused("open directory"),
        ),
        (
            "a hard link with dot-dots",
            tar().hard("stolen", "../".repeat(20) + &secret).end(),
            Refused("leads out"),
        ),
        (
            "a hard link behind a link",
            tar()
                .symlink("dir", outside)
                .hard("stolen", "dir/secret")
                .end(),
            Refused("open directory dir"),
        ),
        (
            "a hard link to a link, then written",
            tar()
                .symlink("s", &secret)
                .hard("h", "s")
                .file("h", "")
                .end(),
            Names(&["h", "s"]),
        ),
        (
            "a hard link to a link, then written behind",
            tar()
                .symlink("s", outside)
                .hard("h", "s")
                .file("h/secret", "evil")
                .end(),
            Refused("h"),
        ),
        (
            "a hard link to a link",
            tar().symlink("s", &secret).hard("h", "s").end(),
            Same,
        ),
        (
            "a hard link to itself",
            tar().file("a", "x").hard("a", "a").end(),
            Refused("a"),
        ),
        (
            "a hard link to what comes later",
            tar().hard("h", "f").file("f", "x").end(),
            Refused("h"),
        ),
        (
            "a hard link to a directory",
            tar().directory("d/").hard("h", "d").end(),
            Refused("h"),
        ),
        (
            "a hard link to the root",
            tar().hard("h", "/").end(),
            Refused("h"),
        ),
        (
            "a hard link with content",
            tar()
                .file("f", "x")
                .add(Header::new(b'1', "h").link("f").size(4), b"evil")
                .end(),
            Refused("checksum"),
        ),
        (
            "a hard link by an absolute name",
            tar().file("f", "x").hard("h", "/f").end(),
            Same,
        ),
    ]
}

fn replaced(outside: &str) -> Vec<Case> {
    let tar = Tar::default;
    let secret = format!("{outside}/secret");
    vec![
        (
            "a file over a link inside",
            tar().symlink("f", "secret").file("f", "").end(),
            Same,
        ),
        (
            "a file over a link",
            tar().symlink("f", &secret).file("f", "").end(),
            Names(&["f"]),
        ),
        (
            "a link in place of a directory",
            tar()
                .directory("d/")
                .file("d/f", "x")
                .symlink("d", outside)
                .file("d/evil", "x")
                .end(),
            Refused("d"),
        ),
        (
            "a directory over a link out",
            tar()
                .symlink("d", outside)
                .directory("d/")
                .file("d/evil", "x")
                .end(),
            Names(&["d", "d/evil"]),
        ),
        (
            "a known directory replaced behind our back",
            tar()
                .directory("a/")
                .directory("a/b/")
                .file("a/b/one", "x")
                .symlink("link", "a")
                .symlink("link/b", outside)
                .file("a/b/evil", "x")
                .end(),
            Refused("b"),
        ),
        (
            "content twice",
            tar().file("a", "1").file("a", "2").end(),
            Refused("duplicates"),
        ),
        (
            "content twice, other spelling",
            tar().file("a", "1").file("./a", "2").end(),
            Refused("duplicates"),
        ),
        (
            "empty twice",
            tar()
                .file("a", "")
                .add(Header::new(b'0', "a").mode(0o600), b"")
                .end(),
            Same,
        ),
        (
            "a directory twice",
            tar()
                .directory("a/")
                .file("a/f", "x")
                .add(Header::new(b'5', "a").mode(0o700).time(1), b"")
                .end(),
            Same,
        ),
        (
            "a link twice",
            tar().symlink("a", "b").symlink("a", "c").end(),
            Same,
        ),
        (
            "a file, then a directory",
            tar().file("a", "").directory("a/").file("a/b", "x").end(),
            Same,
        ),
        (
            "a directory, then a link, with other times",
            tar()
                .directory("x/")
                .add(Header::new(b'5', "x/d").time(1_000_000_000), b"")
                .symlink("x/d", "y")
                .end(),
            Same,
        ),
        (
            "a pipe, then a file",
            tar().add(Header::new(b'6', "p"), b"").file("p", "").end(),
            Same,
        ),
    ]
}
