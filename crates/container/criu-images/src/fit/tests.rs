//! A checkpoint as an attacker would change it, one thing at a time.

use std::path::PathBuf;

use serde_json::{Value as Json, json};
use tempfile::TempDir;

use super::*;
use crate::mounts::FileOwner;

/// A mark; which one it is does not matter here.
const MARK: u32 = 1;
const OUTER: u64 = 100;
const INNER: u64 = 200;

/// Number of a field, and what it gets.
fn message(fields: &[(u32, u64)]) -> Message {
    let mut message = Message::default();
    for (number, value) in fields {
        message.set_number(*number, *value);
    }
    message
}

/// Namespaces: those of criu, or those of a container.
fn namespaces(inner: bool) -> Message {
    let own = if inner { INNER } else { OUTER };
    message(&[
        (1, 1),
        (5, own),
        (6, own + 1),
        (7, own + 2),
        (8, own + 3),
        (9, own + 4),
        (10, OUTER),
        (11, own + 5),
    ])
}

fn credentials() -> Message {
    let mut creds = message(&[]);
    for field in 1..=8 {
        creds.set_number(field, 0);
    }
    creds.set_number(13, 0);
    for set in [10, 11, 12] {
        creds.set(set, [Value::Number(1), Value::Number(0)]);
    }
    creds
}

fn mount(id: u64, parent: u64, kind: u64, place: &str) -> Message {
    let mut mount = message(&[(1, kind), (2, id), (3, 7 + id), (4, parent), (5, 0)]);
    mount.set_text(6, "/");
    mount.set_text(7, place);
    mount.set_text(8, "none");
    mount.set_text(9, "");
    mount
}

fn bound(id: u64, parent: u64, place: &str, key: &str) -> Message {
    let mut bound = mount(id, parent, 0, place);
    bound.set_text(18, key);
    bound
}

struct Checkpoint {
    directory: TempDir,
    spec: Json,
}

impl Checkpoint {
    fn new() -> Self {
        let capabilities = json!(["CAP_CHOWN"]);
        let namespace = |kind: &str| json!({"type": kind, "path": "/run/ns"});
        let checkpoint = Self {
            directory: tempfile::tempdir().unwrap(),
            spec: json!({
                "ociVersion": "1.0.2",
                "root": {"path": "/root"},
                "process": {
                    "cwd": "/",
                    "user": {"uid": 0, "gid": 0},
                    "capabilities": {
                        "bounding": capabilities,
                        "permitted": capabilities,
                        "effective": capabilities,
                    },
                    "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 1024, "hard": 2048}],
                    "oomScoreAdj": -5,
                },
                "mounts": [
                    {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid"]},
                    {"destination": "/data", "type": "bind", "source": "/srv", "options": ["rbind", "ro"]},
                ],
                "linux": {
                    "namespaces": [
                        {"type": "mount"},
                        {"type": "pid"},
                        namespace("network"),
                        namespace("ipc"),
                        namespace("uts"),
                        {"type": "cgroup"},
                    ],
                    "maskedPaths": ["/proc/kcore"],
                    "readonlyPaths": ["/proc/sys"],
                    "seccomp": {"defaultAction": "SCMP_ACT_ALLOW"},
                },
            }),
        };
        let mut inventory = message(&[(1, 2), (5, 9)]);
        inventory.set_message(3, &namespaces(false));
        // The inventory has one mark only.
        let mut bytes = MARK.to_le_bytes().to_vec();
        let encoded = inventory.encode();
        bytes.extend(u32::try_from(encoded.len()).unwrap().to_le_bytes());
        bytes.extend(encoded);
        fs::write(checkpoint.path("inventory.img"), bytes).unwrap();
        let mut thread = message(&[(1, 0), (2, 0), (11, 0), (16, 33)]);
        thread.set_message(10, &credentials());
        let mut limits = message(&[]);
        let limit = message(&[(1, u64::MAX), (2, u64::MAX)]).encode();
        limits.set(1, (0..16).map(|_| Value::Bytes(limit.clone())));
        let mut task = message(&[(1, 1), (9, 33), (13, 1000)]);
        task.set_message(7, &limits);
        let mut core = message(&[(1, 1)]);
        core.set_message(3, &task);
        core.set_message(5, &thread);
        checkpoint.write("core-1.img", vec![core]);
        checkpoint.write("ids-1.img", vec![namespaces(true)]);
        checkpoint.write("pstree.img", vec![message(&[(1, 1), (2, 0), (5, 1)])]);
        checkpoint.write("files.img", vec![message(&[(1, 1), (2, 1)])]);
        let mut sys = mount(5, 2, 1, "/proc/sys");
        sys.set_text(6, "/sys");
        sys.set_number(3, 9);
        let table = vec![
            mount(1, 77, 17, "/"),
            mount(2, 1, 1, "/proc"),
            bound(3, 1, "/data", "/data"),
            bound(4, 2, "/proc/kcore", "/dev/null"),
            sys,
        ];
        checkpoint.write("mountpoints-13.img", table);
        let mut network = message(&[]);
        network.set_text(8, "extRootNetNS");
        checkpoint.write("netns-10.img", vec![network]);
        let streams = r#"["/dev/null","pipe:[11]","pipe:[12]"]"#;
        fs::write(checkpoint.path("descriptors.json"), streams).unwrap();
        checkpoint
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, messages: Vec<Message>) {
        let image = Image::new(MARK, messages);
        image.write(self.directory.path(), name).unwrap();
    }

    fn read(&self, name: &str) -> Vec<Message> {
        Image::read(self.directory.path(), name).unwrap().messages
    }

    /// Changes the messages of an image.
    fn with(self, name: &str, change: impl FnOnce(&mut Vec<Message>)) -> Self {
        let mut image = Image::read(self.directory.path(), name).unwrap();
        change(&mut image.messages);
        image.write(self.directory.path(), name).unwrap();
        self
    }

    fn with_thread(self, change: impl FnOnce(&mut Message)) -> Self {
        self.with("core-1.img", |messages| {
            let mut thread = messages[0].message(5).unwrap().unwrap();
            change(&mut thread);
            messages[0].set_message(5, &thread);
        })
    }

    fn with_creds(self, change: impl FnOnce(&mut Message)) -> Self {
        self.with_thread(|thread| {
            let mut creds = thread.message(10).unwrap().unwrap();
            change(&mut creds);
            thread.set_message(10, &creds);
        })
    }

    fn fit(&self) -> Result<(), FitError> {
        let spec = serde_json::from_value(self.spec.clone()).unwrap();
        let wanted = Wanted {
            spec: &spec,
            cgroup: "/pod/container",
            hierarchies: &[],
            host: Host {
                exists: &|path| path == Path::new("/proc/kcore") || path == Path::new("/proc/sys"),
                flags: &|_| 4,
                owner: &|path| {
                    (path == Path::new("/data/secret")).then_some(FileOwner {
                        mode: 0o100_640,
                        uid: 7,
                        gid: 8,
                    })
                },
            },
        };
        fit(self.directory.path(), &wanted)
    }

    #[track_caller]
    fn refused(&self, parts: &[&str]) {
        let refused = self.fit().expect_err("it was to be refused");
        let text = refused.to_string();
        for part in parts {
            assert!(text.contains(part), "no {part:?} in {text:?}");
        }
    }
}

#[test]
fn what_is_given_becomes_the_new_containers() {
    let mut checkpoint = Checkpoint::new();
    checkpoint.spec["process"]["noNewPrivileges"] = true.into();
    checkpoint.spec["process"]["apparmorProfile"] = "own".into();
    let checkpoint = checkpoint.with_creds(|creds| creds.set_text(15, "unconfined"));
    for (name, content) in [
        ("apparmor.img", "x"),
        ("utsns-11.img", "x"),
        ("stats-dump", "x"),
    ] {
        fs::write(checkpoint.path(name), content).unwrap();
    }
    checkpoint.fit().unwrap();
    let core = &checkpoint.read("core-1.img")[0];
    let (task, thread) = (
        core.message(3).unwrap().unwrap(),
        core.message(5).unwrap().unwrap(),
    );
    assert_eq!((task.word(9).unwrap(), thread.word(16).unwrap()), (2, 2));
    assert!(!task.has(13), "the login is the other node's");
    assert_eq!(task.number(14).unwrap(), Some((-5_i64).cast_unsigned()));
    let limits = task.message(7).unwrap().unwrap().messages(1).unwrap();
    let limit = |at: usize| {
        let limit = &limits[at];
        (
            limit.number(1).unwrap().unwrap(),
            limit.number(2).unwrap().unwrap(),
        )
    };
    assert_eq!((limit(7), limit(0)), ((2048, 2048), (u64::MAX, u64::MAX)));
    let creds = thread.message(10).unwrap().unwrap();
    assert_eq!(creds.text(15).unwrap(), Some("own"));
    assert_eq!(creds.word(18).unwrap(), 1);
    assert_eq!((thread.word(11).unwrap(), thread.word(12).unwrap()), (2, 0));
    assert_eq!(
        checkpoint.read("seccomp.img")[0].messages(1).unwrap().len(),
        1
    );
    let ids = &checkpoint.read("ids-1.img")[0];
    assert_eq!((ids.word(7).unwrap(), ids.word(8).unwrap()), (102, 103));
    let set = checkpoint.read("cgroup.img")[0]
        .message(1)
        .unwrap()
        .unwrap();
    let member = set.message(2).unwrap().unwrap();
    assert_eq!(member.text(2).unwrap(), Some("/pod/container"));
    let flags: Vec<u32> = checkpoint
        .read("mountpoints-13.img")
        .iter()
        .map(|mount| mount.word(5).unwrap())
        .collect();
    // nosuid; read-only and what the source's own mount takes away; nothing; read-only.
    assert_eq!(flags, [0, 2, 5, 0, 1]);
    for gone in ["apparmor.img", "utsns-11.img", "stats-dump"] {
        assert!(!checkpoint.path(gone).exists(), "{gone}");
    }
}

#[test]
fn rights_beyond_the_containers_are_refused() {
    let admin = |creds: &mut Message| creds.set(11, [Value::Number(1 << 21), Value::Number(0)]);
    let refused = Checkpoint::new().with_creds(admin);
    refused.refused(&["core-1.img", "effective", "CAP_SYS_ADMIN"]);
    let bpf = |creds: &mut Message| creds.set(12, [Value::Number(0), Value::Number(1 << 7)]);
    Checkpoint::new()
        .with_creds(bpf)
        .refused(&["bounding", "CAP_BPF"]);
    for (field, what) in [(3, "user 5"), (6, "group 5")] {
        let other = Checkpoint::new().with_creds(|creds| creds.set_number(field, 5));
        other.refused(&[what]);
    }
    let groups = |creds: &mut Message| creds.set(14, [Value::Number(0), Value::Number(6)]);
    Checkpoint::new().with_creds(groups).refused(&["group 6"]);
    let bits = Checkpoint::new().with_creds(|creds| creds.set_number(13, 1));
    bits.refused(&["secure bits"]);
    let urgent = Checkpoint::new().with_thread(|thread| thread.set_number(4, 1));
    urgent.refused(&["CAP_SYS_NICE"]);
    let nobody = Checkpoint::new().with_thread(|thread| thread.remove(10));
    nobody.refused(&["whose"]);
    // A container of a user that cannot become another one.
    let mut user = Checkpoint::new();
    user.spec["process"]["user"]["uid"] = 1000.into();
    user.refused(&["user 0", "runs as user 1000"]);
}

#[test]
fn a_user_that_may_change_is_not_asked_who_it_is() {
    let mut checkpoint = Checkpoint::new();
    let capabilities = json!(["CAP_CHOWN", "CAP_SETUID", "CAP_SETGID"]);
    for set in ["bounding", "permitted", "effective"] {
        checkpoint.spec["process"]["capabilities"][set] = capabilities.clone();
    }
    let checkpoint = checkpoint.with_creds(|creds| {
        creds.set_number(3, 5);
        creds.set_number(4, 5);
    });
    checkpoint.fit().unwrap();
}

#[test]
fn mounts_are_those_of_the_container() {
    const NAME: &str = "mountpoints-13.img";
    let with = |change: &dyn Fn(&mut Vec<Message>)| Checkpoint::new().with(NAME, change);
    let host = with(&|table| table.push(mount(9, 1, 17, "/host")));
    host.refused(&["/host", "does not mount"]);
    let unhidden = with(&|table| drop(table.remove(3)));
    unhidden.refused(&["/proc/kcore", "hidden"]);
    let writable = with(&|table| drop(table.remove(4)));
    writable.refused(&["/proc/sys"]);
    let missing = with(&|table| drop(table.remove(2)));
    missing.refused(&["/data", "was not there"]);
    let overlay = with(&|table| table[1].set_number(1, 17));
    overlay.refused(&["/proc", "not of type proc"]);
    let inside = with(&|table| table[1].set_text(6, "/sys"));
    inside.refused(&["/proc", "not of type proc"]);
    let other_source = with(&|table| table[2].set_text(18, "/dev/null"));
    other_source.refused(&["/data", "outside"]);
    let other_mask = with(&|table| table[3].set_text(18, "/data"));
    other_mask.refused(&["/proc/kcore", "not hidden"]);
    let elsewhere = with(&|table| table[4].set_text(6, "/"));
    elsewhere.refused(&["something else is mounted at /proc/sys"]);
    let hidden = with(&|table| table[3].set_number(4, 1));
    hidden.refused(&["/proc/kcore", "hidden by another"]);
    let twice = with(&|table| table.push(mount(9, 1, 1, "/proc")));
    twice.refused(&["two mounts"]);
    let up = with(&|table| table[2].set_text(7, "/data/../x"));
    up.refused(&["no place for a mount"]);
    let plugin = with(&|table| table[2].set_number(12, 1));
    plugin.refused(&["not restored"]);
    let extra = Checkpoint::new();
    extra.write("mountpoints-14.img", vec![mount(1, 77, 17, "/")]);
    assert!(extra.fit().is_err());
}

#[test]
fn namespaces_are_those_of_the_container() {
    for (field, name) in [(5, "PID"), (6, "network"), (9, "mount")] {
        let outer = namespaces(false).number(field).unwrap().unwrap();
        let host = Checkpoint::new().with("ids-1.img", |ids| ids[0].set_number(field, outer));
        host.refused(&["no", name]);
    }
    let user = Checkpoint::new().with("ids-1.img", |ids| ids[0].set_number(10, 7));
    user.refused(&["user namespace"]);
    let nested = Checkpoint::new();
    let mut other = namespaces(true);
    other.set_number(6, 999);
    nested.write("ids-2.img", vec![other]);
    nested.refused(&["different namespaces"]);
    let own_network = Checkpoint::new().with("netns-10.img", |all| all[0].remove(8));
    own_network.refused(&["network"]);
    fs::remove_file(own_network.path("netns-10.img")).unwrap();
    own_network.refused(&["netns"]);
    let outer = Checkpoint::new();
    fs::write(outer.path("inventory.img"), [1, 0, 0, 0, 0, 0, 0, 0]).unwrap();
    outer.refused(&["inventory.img"]);
    let mut shared = Checkpoint::new();
    shared.spec["linux"]["namespaces"][1]["path"] = "/run/pid".into();
    shared.refused(&["shares processes"]);
    let mut mapped = Checkpoint::new();
    let user = json!({"type": "user", "path": "/run/user"});
    mapped.spec["linux"]["namespaces"]
        .as_array_mut()
        .unwrap()
        .push(user);
    mapped.refused(&["a user namespace"]);
}

#[test]
fn files_lead_to_the_container_only() {
    let with = |fields: &[(u32, u64)], part: Option<(u32, Message)>| {
        let mut file = message(fields);
        if let Some((number, part)) = part {
            file.set_message(number, &part);
        }
        Checkpoint::new().with("files.img", |files| files.push(file))
    };
    for (kind, what) in [
        (10, "packet"),
        (12, "fanotify"),
        (14, "namespace"),
        (15, "TUN"),
        (16, "extension"),
        (19, "BPF"),
        (77, "unknown"),
    ] {
        with(&[(1, kind), (2, 9)], None).refused(&["files.img", what]);
    }
    with(&[(1, 4), (2, 9)], Some((4, message(&[(4, 3)])))).refused(&["CAP_NET_RAW"]);
    with(&[(1, 4), (2, 9)], Some((4, message(&[(4, 1)]))))
        .fit()
        .unwrap();
    with(&[(1, 5), (2, 9)], Some((16, message(&[(6, 1)])))).refused(&["socket of the node"]);
    with(&[(1, 1), (2, 9)], Some((3, message(&[(9, 1)])))).refused(&["extension"]);
    let ghost = Checkpoint::new();
    ghost.write(
        "ghost-file-1.img",
        vec![message(&[(1, 0), (2, 0), (3, 0o060_666)])],
    );
    ghost.refused(&["ghost-file-1.img", "device"]);
    for streams in [
        r#"["a"]"#,
        r#"["pipe:[1]","x","y","/dev/z"]"#,
        r#"["pipe:x","",""]"#,
        "7",
    ] {
        let checkpoint = Checkpoint::new();
        fs::write(checkpoint.path("descriptors.json"), streams).unwrap();
        checkpoint.refused(&["descriptors.json"]);
    }
}

#[test]
fn images_of_no_known_kind_are_refused() {
    for name in [
        "netdev-9.img",
        "iptables-9.img",
        "userns-9.img",
        "autofs-1.img",
        "creds-1.img",
        "x",
    ] {
        let checkpoint = Checkpoint::new();
        fs::write(checkpoint.path(name), "").unwrap();
        checkpoint.refused(&[name, "no place"]);
    }
    let linked = Checkpoint::new();
    std::os::unix::fs::symlink("/etc/shadow", linked.path("pages-1.img")).unwrap();
    linked.refused(&["pages-1.img"]);
    let damaged = Checkpoint::new();
    fs::write(damaged.path("core-1.img"), "nonsense").unwrap();
    damaged.refused(&["core-1.img"]);
    let huge = Checkpoint::new();
    let file = fs::File::create(huge.path("core-1.img")).unwrap();
    file.set_len(1 << 40).unwrap();
    assert!(huge.fit().is_err());
}

#[test]
fn own_filters_stay_above_the_containers() {
    let filters = |prev: Option<u64>, flags: u64| {
        let filter = |prev: Option<u64>| {
            let mut filter = message(&[(3, flags)]);
            filter.set(1, Some(Value::Bytes(vec![6, 0, 0, 0, 0, 0, 0, 0])));
            prev.into_iter().for_each(|prev| filter.set_number(2, prev));
            Value::Bytes(filter.encode())
        };
        let mut all = Message::default();
        all.set(1, [filter(None), filter(prev)]);
        all
    };
    let checkpoint = Checkpoint::new().with_thread(|thread| {
        thread.set_number(11, 2);
        thread.set_number(12, 1);
    });
    checkpoint.write("seccomp.img", vec![filters(Some(0), 1)]);
    checkpoint.fit().unwrap();
    let list = checkpoint.read("seccomp.img")[0].messages(1).unwrap();
    let chain: Vec<_> = list
        .iter()
        .map(|filter| filter.number(2).unwrap())
        .collect();
    assert_eq!(chain, [Some(2), Some(0), None]);
    assert_eq!(list[0].word(3).unwrap(), 0, "threads are not synchronised");
    let thread = checkpoint.read("core-1.img")[0]
        .message(5)
        .unwrap()
        .unwrap();
    assert_eq!((thread.word(11).unwrap(), thread.word(12).unwrap()), (2, 1));

    let endless = Checkpoint::new();
    endless.write("seccomp.img", vec![filters(Some(1), 0)]);
    endless.refused(&["seccomp.img"]);
    let beyond = Checkpoint::new().with_thread(|thread| {
        thread.set_number(11, 2);
        thread.set_number(12, 5);
    });
    beyond.refused(&["no seccomp filter 5"]);
}

#[test]
fn a_tmpfs_holds_no_devices_of_the_node() {
    let archive = |kind: tar::EntryType, name: &str, device: (u32, u32)| {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(0);
        header.set_mode(0o666);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_device_major(device.0).unwrap();
        header.set_device_minor(device.1).unwrap();
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        builder.append(&header, &[][..]).unwrap();
        let tar = builder.into_inner().unwrap();
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut packed, &tar).unwrap();
        packed.finish().unwrap()
    };
    let with = |bytes: &[u8]| {
        let checkpoint = Checkpoint::new();
        fs::write(checkpoint.path("tmpfs-dev-7.tar.gz.img"), bytes).unwrap();
        checkpoint
    };
    use tar::EntryType as E;
    let null = with(&archive(E::Char, "./null", (1, 3)));
    null.fit().unwrap();
    let file = fs::File::open(null.path("tmpfs-dev-7.tar.gz.img")).unwrap();
    let mut packed = tar::Archive::new(flate2::read::GzDecoder::new(file));
    let entry = packed.entries().unwrap().next().unwrap().unwrap();
    assert_eq!(entry.header().device_minor().unwrap(), Some(3));
    with(&archive(E::Char, "mem", (1, 1))).refused(&["1:1"]);
    with(&archive(E::Block, "sda", (8, 0))).refused(&["sda"]);
    with(&archive(E::Regular, "../x", (0, 0))).refused(&["leads out"]);
    with(&archive(E::Regular, "/x", (0, 0))).refused(&["leads out"]);
    with(b"nonsense").refused(&["cannot be read"]);
}

#[test]
fn files_that_its_user_cannot_open_are_refused() {
    let with = |flags: u64, capability: &str, group: u32| {
        let mut file = message(&[(1, 1), (2, 9)]);
        let mut plain = message(&[(1, 9), (2, flags)]);
        plain.set_text(6, "/data/secret");
        file.set_message(3, &plain);
        let mut checkpoint = Checkpoint::new().with("files.img", |files| files.push(file));
        checkpoint.spec["process"]["user"]["additionalGids"] = json!([group]);
        checkpoint.spec["process"]["capabilities"]["permitted"] = json!([capability]);
        checkpoint
    };
    let (read, write, both, path) = (0, 1, 2, 0o10_000_000);
    for flags in [read, write, both] {
        with(flags, "CAP_CHOWN", 1).refused(&["/data/secret", "must not open"]);
        with(flags, "CAP_DAC_OVERRIDE", 1).fit().unwrap();
    }
    with(path, "CAP_CHOWN", 1).fit().unwrap();
    with(read, "CAP_DAC_READ_SEARCH", 1).fit().unwrap();
    with(both, "CAP_DAC_READ_SEARCH", 1).refused(&["must not open"]);
    // Its group may read.
    with(read, "CAP_CHOWN", 8).fit().unwrap();
    with(write, "CAP_CHOWN", 8).refused(&["must not open"]);
}

/// Every byte of every image changed, one at a time: nothing may make the check itself fall over.
#[test]
fn damage_is_refused_or_harmless() {
    for name in [
        "inventory.img",
        "core-1.img",
        "ids-1.img",
        "pstree.img",
        "files.img",
        "mountpoints-13.img",
        "netns-10.img",
    ] {
        let whole = fs::read(Checkpoint::new().path(name)).unwrap();
        for at in 0..whole.len() {
            for change in [0x01, 0xff] {
                let checkpoint = Checkpoint::new();
                let mut bytes = whole.clone();
                bytes[at] ^= change;
                fs::write(checkpoint.path(name), bytes).unwrap();
                let _ = checkpoint.fit();
            }
        }
    }
}
