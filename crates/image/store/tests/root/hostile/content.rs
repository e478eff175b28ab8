//! Content that is not there, too much, or full of holes.

use super::Case;
use super::Wanted::{Names, Refused, Same};
use super::archive::{Header, Tar};

pub(super) fn cases() -> Vec<Case> {
    let mut cases = ends();
    cases.extend(sparse());
    cases
}

fn ends() -> Vec<Case> {
    let tar = Tar::default;
    let one = || tar().file("f", [7; 700]);
    vec![
        ("nothing", Vec::new(), Names(&[])),
        ("only an end", tar().end(), Same),
        ("no end", one().without_end(), Same),
        (
            "rubbish behind the end",
            [one().end(), b"rubbish".repeat(999)].concat(),
            Same,
        ),
        (
            "another archive behind the end",
            [one().end(), tar().file("../evil", "x").end()].concat(),
            Same,
        ),
        (
            "a single empty block",
            one().raw([0; 512]).file("../evil", "x").end(),
            Refused("single empty block"),
        ),
        (
            "cut in a header",
            one().end()[..100].to_vec(),
            Refused("ends early"),
        ),
        (
            "cut in content",
            one().end()[..900].to_vec(),
            Refused("ends early"),
        ),
        (
            "cut in the padding",
            one().end()[..1300].to_vec(),
            Refused("ends early"),
        ),
        (
            "cut in a PAX header",
            tar().pax(&[("path", "a")]).end()[..520].to_vec(),
            Refused("ends early"),
        ),
        (
            "no archive",
            b"PK\x03\x04".repeat(1000),
            Refused("checksum"),
        ),
    ]
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn sparse() -> Vec<Case> {
    let tar = Tar::default;
    let old = |name: &str, map: &[(u64, u64)], size: u64, data: &[u8]| {
        let mut header = Header::file(name, data)
            .bytes(156, "S")
            .gnu()
            .number(483..495, size);
        for (index, (offset, length)) in map.iter().enumerate() {
            let at = 386 + index * 24;
            header = header
                .number(at..at + 12, *offset)
                .number(at + 12..at + 24, *length);
        }
        tar().add(header, data).end()
    };
    let head: Vec<u8> = [b"head".repeat(128), b"tail".to_vec()].concat();
    let terabyte = 1 << 40;
    let holes = format!("2\n4096\n4\n{terabyte}\n0\n");
    vec![
        (
            "an old sparse file",
            old("f", &[(0, 512), (8192, 4)], 8196, &head),
            Same,
        ),
        (
            "an old sparse file that goes back",
            old("f", &[(1000, 512), (0, 4)], 1512, &head),
            Refused("backwards"),
        ),
        (
            "an old sparse file that is shorter than its map",
            old("f", &[(0, 512), (8192, 4)], 100, &head),
            Refused("past the end"),
        ),
        (
            "an old sparse file that is longer than its map",
            old("f", &[(0, 512), (8192, 4)], 9000, &head),
            Refused("before its file"),
        ),
        (
            "an old sparse file with less content",
            old("f", &[(0, 512), (8192, 4)], 8196, b"head"),
            Refused("does not fit"),
        ),
        (
            "a sparse file of parts of blocks",
            old("f", &[(0, 4), (8192, 4)], 8196, b"headtail"),
            Refused("part of a block"),
        ),
        (
            "sparse outside of GNU",
            tar()
                .add(Header::file("f", b"x").bytes(156, "S"), b"x")
                .end(),
            Refused("sparse"),
        ),
        (
            "a sparse file",
            tar()
                .sparse("f", 4100, "2\n4096\n4\n4100\n0\n", b"data")
                .end(),
            Same,
        ),
        (
            "a terabyte of holes",
            tar().sparse("f", terabyte, &holes, b"data").end(),
            Same,
        ),
        (
            "more holes than a file can have",
            tar()
                .sparse("f", 1 << 62, "2\n0\n4\n4611686018427387904\n0\n", b"data")
                .end(),
            Refused("16 TiB"),
        ),
        (
            "a sparse file with a name that leads out",
            tar().sparse("../evil", 4, "1\n0\n4\n", b"data").end(),
            Refused("leads out"),
        ),
        (
            "a sparse map of a trillion",
            tar()
                .sparse("f", 10, "1000000000000\n0\n4\n", b"data")
                .end(),
            Refused("sparse map"),
        ),
        (
            "a sparse map that overflows",
            tar()
                .sparse("f", 10, "9999999999999999999\n0\n4\n", b"data")
                .end(),
            Refused("sparse map"),
        ),
        (
            "a sparse map of text",
            tar().sparse("f", 10, "one\n0\n4\n", b"data").end(),
            Refused("sparse map"),
        ),
        (
            "a sparse map that is cut",
            tar().sparse("f", 10, "2\n0\n", b"").end(),
            Refused("sparse map"),
        ),
        (
            "sparse extents that overlap",
            tar().sparse("f", 600, "2\n0\n512\n2\n4\n", &head).end(),
            Refused("backwards"),
        ),
        (
            "a sparse file without extents",
            tar().sparse("f", 0, "0\n", b"").end(),
            Same,
        ),
        (
            "an unknown sparse version",
            tar().pax(&[("GNU.sparse.major", "7")]).file("f", "x").end(),
            Refused("version"),
        ),
        (
            "a sparse map without a size",
            tar()
                .pax(&[("GNU.sparse.numblocks", "1"), ("GNU.sparse.map", "0,1")])
                .file("f", "x")
                .end(),
            Refused("without its size"),
        ),
        (
            "an odd sparse map",
            tar()
                .pax(&[
                    ("GNU.sparse.numblocks", "1"),
                    ("GNU.sparse.map", "0,1,2"),
                    ("GNU.sparse.size", "9"),
                ])
                .file("f", "x")
                .end(),
            Refused("without a length"),
        ),
        (
            "a sparse map of unknown length",
            tar()
                .pax(&[("GNU.sparse.map", "8,1"), ("GNU.sparse.size", "9")])
                .file("f", "x")
                .end(),
            Refused("as many"),
        ),
        (
            "a sparse file of version 0.1",
            tar()
                .pax(&[
                    ("GNU.sparse.size", "9"),
                    ("GNU.sparse.numblocks", "1"),
                    ("GNU.sparse.name", "g"),
                    ("GNU.sparse.map", "8,1"),
                ])
                .file("f", "x")
                .end(),
            Same,
        ),
    ]
}
