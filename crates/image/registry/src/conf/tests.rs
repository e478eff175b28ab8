use std::fs;

use crioxide_names::ImageReference;

use super::*;

struct Files {
    directory: tempfile::TempDir,
}

impl Files {
    fn new(main: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("registries.conf"), main).unwrap();
        fs::create_dir(directory.path().join("d")).unwrap();
        Self { directory }
    }

    fn drop_in(self, name: &str, text: &str) -> Self {
        fs::write(self.directory.path().join("d").join(name), text).unwrap();
        self
    }

    fn load(&self) -> Result<RegistriesConf, LoadRegistriesConfError> {
        let path = |name: &str| self.directory.path().join(name);
        RegistriesConf::load(&ConfPaths {
            file: path("registries.conf"),
            drop_ins: path("d"),
            alias_cache: Some(path("cache.conf")),
        })
    }
}

/// `mirror|primary endpoint [insecure]` of each place to ask.
fn places(conf: &RegistriesConf, reference: &str) -> Vec<String> {
    let reference = ImageReference::parse(reference).unwrap();
    let endpoints = conf.resolve(&reference).unwrap();
    endpoints
        .mirrors
        .iter()
        .chain([&endpoints.primary])
        .map(|e| {
            let kind = if e.kind == EndpointKind::Mirror {
                "mirror"
            } else {
                "primary"
            };
            format!("{kind} {e}{}", if e.insecure { " insecure" } else { "" })
        })
        .collect()
}

fn candidates(conf: &RegistriesConf, name: &str) -> Vec<String> {
    conf.candidates(name)
        .unwrap()
        .iter()
        .map(ToString::to_string)
        .collect()
}

#[test]
fn nothing_configured_means_the_registry_itself() {
    let conf = RegistriesConf::load(&ConfPaths {
        file: "/nonexistent/registries.conf".into(),
        drop_ins: "/nonexistent/d".into(),
        alias_cache: None,
    })
    .unwrap();
    assert_eq!(places(&conf, "quay.io/a/b:1"), ["primary quay.io/a/b:1"]);
    let error = conf.candidates("busybox").unwrap_err().to_string();
    assert!(
        error.contains("did not resolve to an alias")
            && error.contains("/nonexistent/registries.conf")
    );
}

#[test]
fn mirrors_rewrite_and_the_longest_prefix_wins() {
    let digest = format!("sha256:{}", "1".repeat(64));
    let conf = Files::new(
        r#"
        [[registry]]
        prefix = "quay.io"
        location = "quay.example.com/proxy/"
        [[registry]]
        prefix = "quay.io/team"
        location = "quay.io/team"
        insecure = true
        [[registry.mirror]]
        location = "one.example.com/t"
        pull-from-mirror = "digest-only"
        [[registry.mirror]]
        location = "two.example.com"
        insecure = true
        pull-from-mirror = "tag-only"
        [[registry.mirror]]
        location = "three.example.com:5000/x"
        [[registry]]
        prefix = "*.wild.io"
        insecure = true
        [[registry]]
        prefix = "*.deep.wild.io"
        location = "deep.example.com"
        "#,
    )
    .load()
    .unwrap();
    assert_eq!(
        places(&conf, "quay.io/team/app:1"),
        [
            "mirror two.example.com/app:1 insecure",
            "mirror three.example.com:5000/x/app:1",
            "primary quay.io/team/app:1 insecure"
        ]
    );
    assert_eq!(
        places(&conf, &format!("quay.io/team/app@{digest}")),
        [
            format!("mirror one.example.com/t/app@{digest}"),
            format!("mirror three.example.com:5000/x/app@{digest}"),
            format!("primary quay.io/team/app@{digest} insecure")
        ]
    );
    assert_eq!(
        places(&conf, "quay.io/teams/app:1"),
        ["primary quay.example.com/proxy/teams/app:1"]
    );
    assert_eq!(
        places(&conf, "quay.io.evil.com/app:1"),
        ["primary quay.io.evil.com/app:1"]
    );
    assert_eq!(
        places(&conf, "a.wild.io/x:1"),
        ["primary a.wild.io/x:1 insecure"]
    );
    assert_eq!(
        places(&conf, "a.deep.wild.io/x:1"),
        ["primary deep.example.com/x:1"]
    );
    assert_eq!(places(&conf, "wild.io/x:1"), ["primary wild.io/x:1"]);
    assert_eq!(
        places(&conf, "a.wild.io.evil.com/x:1"),
        ["primary a.wild.io.evil.com/x:1"]
    );
}

#[test]
fn blocked_registries_are_refused() {
    let conf = Files::new("[[registry]]\nlocation = \"bad.io\"\nblocked = true\n")
        .load()
        .unwrap();
    let error = conf
        .resolve(&ImageReference::parse("bad.io/x:1").unwrap())
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("bad.io/x:1") && error.contains("blocked"),
        "{error}"
    );
}

#[test]
fn short_names() {
    let main = "unqualified-search-registries = [\"quay.io\", \"docker.io/\"]\n[aliases]\nweb = \"example.com/site/web\"\nold = \"a.io/old\"\n";
    let files = Files::new(main).drop_in("50.conf", "[aliases]\nold = \"\"\nnew = \"b.io/new\"\n");
    let conf = files.load().unwrap();
    assert_eq!(candidates(&conf, "web:2"), ["example.com/site/web:2"]);
    assert_eq!(candidates(&conf, "new"), ["b.io/new:latest"]);
    assert_eq!(candidates(&conf, "localhost/x"), ["localhost/x:latest"]);
    let digest = format!("sha256:{}", "1".repeat(64));
    assert_eq!(
        candidates(&conf, &format!("quay.io/x:1@{digest}")),
        [format!("quay.io/x@{digest}")]
    );
    let error = conf.candidates("old").unwrap_err().to_string();
    assert!(
        error.contains("short name mode is enforcing, but image name old returns ambiguous list"),
        "{error}"
    );
    let conf = conf.with_short_name_mode(ShortNameMode::Disabled);
    assert_eq!(
        candidates(&conf, "old:1"),
        ["quay.io/old:1", "docker.io/library/old:1"]
    );
    assert!(conf.candidates("Not A Name").is_err());
}

#[test]
fn the_alias_cache_wins() {
    let files = Files::new("[aliases]\nweb = \"a.io/web\"\n");
    fs::write(
        files.directory.path().join("cache.conf"),
        "[aliases]\nweb = \"cached.io/web\"\n",
    )
    .unwrap();
    assert_eq!(
        candidates(&files.load().unwrap(), "web"),
        ["cached.io/web:latest"]
    );
}

#[test]
fn drop_ins_replace_in_lexical_order() {
    let conf = Files::new("unqualified-search-registries = [\"a.io\"]\n[[registry]]\nlocation = \"x.io\"\ninsecure = true\n")
        .drop_in("20.conf", "[[registry]]\nlocation = \"x.io\"\n[[registry.mirror]]\nlocation = \"m.io\"\n")
        .drop_in("10.conf", "unqualified-search-registries = [\"b.io\"]\nshort-name-mode = \"disabled\"\n")
        .drop_in("99.conf.bak", "not toml at all")
        .load()
        .unwrap();
    assert_eq!(candidates(&conf, "app"), ["b.io/app:latest"]);
    assert_eq!(
        places(&conf, "x.io/app:1"),
        ["mirror m.io/app:1", "primary x.io/app:1"]
    );
}

#[test]
fn version_1_is_understood() {
    let conf = Files::new(
        "[registries.search]\nregistries = [\"a.io\"]\n[registries.insecure]\nregistries = [\"i.io\"]\n[registries.block]\nregistries = [\"b.io\"]\n",
    )
    .load()
    .unwrap();
    assert_eq!(candidates(&conf, "app"), ["a.io/app:latest"]);
    assert_eq!(places(&conf, "i.io/x:1"), ["primary i.io/x:1 insecure"]);
    assert!(
        conf.resolve(&ImageReference::parse("b.io/x:1").unwrap())
            .is_err()
    );
}

#[test]
fn flaws_name_file_and_key() {
    for (text, key) in [
        ("[[registry]]\ninsecure = true\n", "registry[0].location"),
        ("[[registry]]\nprefix = \"a.io\"\n", "registry[0].location"),
        (
            "[[registry]]\nlocation = \"https://a.io\"\n",
            "registry[0].location",
        ),
        (
            "[[registry]]\nlocation = \"a.io\"\npull-from-mirror = \"all\"\n",
            "registry[0].pull-from-mirror",
        ),
        (
            "[[registry]]\nlocation = \"a.io\"\n[[registry.mirror]]\n",
            "registry[0].mirror[0].location",
        ),
        (
            "[[registry]]\nlocation = \"a.io\"\n[[registry.mirror]]\nlocation = \"m\"\npull-from-mirror = \"some\"\n",
            "registry[0].mirror[0].pull-from-mirror",
        ),
        (
            "[[registry]]\nprefix = \"x\"\nlocation = \"a.io\"\n[[registry]]\nprefix = \"y\"\nlocation = \"a.io\"\nblocked = true\n",
            "registry[1].blocked",
        ),
        (
            "[[registry]]\nprefix = \"*.a.io/x\"\nlocation = \"b.io\"\n",
            "registry[0].prefix",
        ),
        ("short-name-mode = \"strict\"\n", "short-name-mode"),
        (
            "unqualified-search-registries = [\"\"]\n",
            "unqualified-search-registries",
        ),
        ("[aliases]\nweb = \"web\"\n", "aliases.web"),
        (
            "[registries.search]\nregistries = []\n[[registry]]\nlocation = \"a.io\"\n",
            "registries",
        ),
    ] {
        let error = Files::new(text).load().unwrap_err();
        assert!(
            matches!(&error, LoadRegistriesConfError::Invalid { key: found, .. } if found == key),
            "{text}: {error}"
        );
        assert!(error.to_string().contains("registries.conf"), "{error}");
    }
    let error = Files::new("unqualified-search-registries = 1\n")
        .load()
        .unwrap_err();
    assert!(matches!(error, LoadRegistriesConfError::Parse { .. }));
}

mod fuzz {
    use super::*;
    use proptest::prelude::*;
    use proptest::sample::Index;

    const WHOLE: &str = r#"unqualified-search-registries = ["docker.io", "quay.io"]
short-name-mode = "enforcing"
credential-helpers = ["containers-auth.json"]
[[registry]]
prefix = "*.example.com"
blocked = false
insecure = true
[[registry]]
prefix = "a.io/b"
location = "c.io/d"
mirror-by-digest-only = true
[[registry.mirror]]
location = "e.io/f"
pull-from-mirror = "digest-only"
[aliases]
fedora = "registry.fedoraproject.org/fedora"
"#;

    proptest! {
        #[test]
        fn damaged_files_are_read_or_refused(damage in prop::collection::vec((any::<Index>(), any::<u8>()), 0..6)) {
            let mut text = WHOLE.as_bytes().to_vec();
            for (index, value) in damage {
                let at = index.index(text.len());
                text[at] = value;
            }
            if let Ok(conf) = Files::new(&String::from_utf8_lossy(&text)).load() {
                for name in ["a.io/b/c:1", "x.example.com/y:1", "elsewhere.org/z:1"] {
                    let _ = conf.resolve(&ImageReference::parse(name).unwrap());
                }
                let _ = conf.candidates("fedora");
            }
        }
    }
}
