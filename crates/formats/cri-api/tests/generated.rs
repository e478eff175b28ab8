//! The checked-in code is what the generator makes of the proto file.

use std::{fs, path::Path};

#[test]
fn checked_in_code_is_current() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let out = tempfile::tempdir().unwrap();
    let files = protox::compile([root.join("proto/cri-v1.proto")], [root.join("proto")]).unwrap();
    tonic_prost_build::configure()
        .client_mod_attribute("runtime.v1", "#[cfg(feature = \"grpc\")]")
        .server_mod_attribute("runtime.v1", "#[cfg(feature = \"grpc\")]")
        .skip_debug(["AuthConfig"])
        .out_dir(out.path())
        .compile_fds(files)
        .unwrap();
    let fresh = fs::read_to_string(out.path().join("runtime.v1.rs")).unwrap();
    let path = root.join("src/gen/runtime.v1.rs");
    if std::env::var_os("CRIOXIDE_GENERATE").is_some() {
        fs::write(&path, &fresh).unwrap();
    }
    let checked_in = fs::read_to_string(&path).unwrap();
    assert!(
        checked_in == fresh,
        "{} is stale: run CRIOXIDE_GENERATE=1 cargo test -p crioxide-cri-api",
        path.display()
    );
}
