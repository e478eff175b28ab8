//! The checked-in code is what the generator makes of the proto file.

#![expect(
    clippy::unwrap_used,
    reason = "a test may unwrap: the panic is its report"
)]

use std::{fs, path::Path};

use tonic_prost_build::Builder;

fn generate(builder: Builder) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let out = tempfile::tempdir().unwrap();
    let files = protox::compile([root.join("proto/cri-v1.proto")], [root.join("proto")]).unwrap();
    builder.out_dir(out.path()).compile_fds(files).unwrap();
    fs::read_to_string(out.path().join("runtime.v1.rs")).unwrap()
}

fn compare(name: &str, fresh: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("src/gen")
        .join(name);
    if std::env::var_os("CRIOXIDE_GENERATE").is_some() {
        fs::write(&path, fresh).unwrap();
    }
    let checked_in = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        checked_in == fresh,
        "{} is stale: run CRIOXIDE_GENERATE=1 cargo test -p crioxide-cri-api",
        path.display()
    );
}

#[test]
fn messages_and_clients_are_current() {
    let builder = tonic_prost_build::configure()
        .build_server(false)
        .client_mod_attribute("runtime.v1", "#[cfg(feature = \"grpc\")]")
        .skip_debug(["AuthConfig"]);
    compare("runtime.v1.rs", &generate(builder));
}

/// The server's answers to lists are made of entries that are encoded already.
#[test]
fn servers_are_current() {
    let mut builder = tonic_prost_build::configure()
        .build_client(false)
        .extern_path(".runtime.v1", "crate::v1");
    for (answer, entry) in [
        ("ListPodSandboxResponse", "PodSandbox"),
        ("StreamPodSandboxesResponse", "PodSandbox"),
        ("ListContainersResponse", "Container"),
        ("StreamContainersResponse", "Container"),
    ] {
        builder = builder.extern_path(
            format!(".runtime.v1.{answer}"),
            format!("crate::EncodedList<crate::v1::{entry}>"),
        );
    }
    compare("server.rs", &generate(builder));
}
