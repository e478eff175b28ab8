//! Rules of the pod's mounts.

use super::*;

fn request(container: &str, host: &str) -> v1::Mount {
    v1::Mount {
        container_path: container.into(),
        host_path: host.into(),
        ..v1::Mount::default()
    }
}

fn source(propagation: HostPropagation) -> BTreeMap<String, VolumeSource> {
    BTreeMap::from([(
        "/c".to_owned(),
        VolumeSource {
            path: "/h".into(),
            mount_point: "/m".into(),
            propagation,
            image: None,
            files: None,
        },
    )])
}

fn options(
    request: v1::Mount,
    propagation: HostPropagation,
) -> Result<(String, Option<&'static str>), VolumeError> {
    let prepared = prepare(
        &[request],
        &source(propagation),
        RecursiveReadOnly::Supported,
    )?;
    Ok((
        prepared.mounts[0].options().clone().unwrap().join(","),
        prepared.rootfs_propagation,
    ))
}

#[test]
fn writability() {
    let with = |readonly, recursive_read_only| v1::Mount {
        readonly,
        recursive_read_only,
        ..request("/c", "/h")
    };
    assert_eq!(
        options(with(false, false), HostPropagation::Private)
            .unwrap()
            .0,
        "rbind,rprivate,rw,bind"
    );
    assert_eq!(
        options(with(true, false), HostPropagation::Private)
            .unwrap()
            .0,
        "rbind,rprivate,ro,bind"
    );
    assert_eq!(
        options(with(true, true), HostPropagation::Private)
            .unwrap()
            .0,
        "rbind,rprivate,rro,bind"
    );
    assert_eq!(
        options(with(false, true), HostPropagation::Private),
        Err(VolumeError::RecursiveWritable)
    );
    let unsupported = prepare(
        &[with(true, true)],
        &BTreeMap::new(),
        RecursiveReadOnly::Unsupported,
    );
    assert_eq!(
        unsupported.unwrap_err().to_string(),
        "recursive read-only mount support is not available for hostPath \"/h\""
    );
}

#[test]
fn propagation_follows_the_node() {
    let with = |propagation: MountPropagation| v1::Mount {
        propagation: propagation.into(),
        ..request("/c", "/h")
    };
    let bidirectional = with(MountPropagation::PropagationBidirectional);
    let to_container = with(MountPropagation::PropagationHostToContainer);
    assert_eq!(
        options(bidirectional.clone(), HostPropagation::Shared).unwrap(),
        ("rbind,rshared,rw,bind".into(), Some("rshared"))
    );
    assert_eq!(
        options(to_container.clone(), HostPropagation::Slave).unwrap(),
        ("rbind,rslave,rw,bind".into(), Some("rslave"))
    );
    assert_eq!(
        options(bidirectional, HostPropagation::Slave)
            .unwrap_err()
            .to_string(),
        "path \"/h\" is mounted on \"/m\" but it is not a shared mount"
    );
    assert!(
        options(to_container.clone(), HostPropagation::Private)
            .unwrap_err()
            .to_string()
            .contains("shared or slave")
    );
    let recursive = v1::Mount {
        readonly: true,
        recursive_read_only: true,
        ..to_container
    };
    assert!(matches!(
        options(recursive, HostPropagation::Shared),
        Err(VolumeError::RecursivePropagation {
            propagation: "PROPAGATION_HOST_TO_CONTAINER"
        })
    ));
}

#[test]
fn incomplete_mounts_are_refused() {
    for (mount, error) in [
        (request("", "/h"), VolumeError::NoContainerPath),
        (request("/x", ""), VolumeError::NoHostPath),
        (
            request("/x/../../etc", "/h"),
            VolumeError::ContainerPath {
                path: "/x/../../etc".into(),
            },
        ),
    ] {
        assert_eq!(
            prepare(&[mount], &BTreeMap::new(), RecursiveReadOnly::Supported),
            Err(error)
        );
    }
}

#[test]
fn parents_come_before_children() {
    let requested = [
        request("/a/b/c", "/1"),
        request("/a", "/2"),
        request("/z", "/3"),
        request("/a/b", "/4"),
    ];
    let prepared = prepare(&requested, &BTreeMap::new(), RecursiveReadOnly::Supported).unwrap();
    let order: Vec<_> = prepared
        .mounts
        .iter()
        .map(|mount| mount.destination().display().to_string())
        .collect();
    assert_eq!(order, ["/a", "/z", "/a/b", "/a/b/c"]);
    assert_eq!(prepared.records[0].container_path, "/a/b/c");
}

#[test]
fn mapped_mounts_carry_both_mappings() {
    let mapping = v1::IdMapping {
        host_id: 65536,
        container_id: 0,
        length: 10,
    };
    let mapped = v1::Mount {
        uid_mappings: vec![mapping],
        gid_mappings: vec![mapping],
        ..request("/c", "/h")
    };
    let prepared = prepare(&[mapped], &BTreeMap::new(), RecursiveReadOnly::Supported).unwrap();
    let made = &prepared.mounts[0];
    assert_eq!(made.uid_mappings().clone().unwrap()[0].host_id(), 65536);
    assert_eq!(made.gid_mappings().clone().unwrap().len(), 1);
}

#[test]
fn the_files_of_an_artifact_are_mounted_one_by_one() {
    let sources = BTreeMap::from([(
        "/c/".to_owned(),
        VolumeSource {
            image: Some("1234".into()),
            files: Some(vec![
                ("a".into(), "/blobs/1".into()),
                ("d/b".into(), "/blobs/2".into()),
            ]),
            ..VolumeSource::default()
        },
    )]);
    let wanted = v1::Mount {
        uid_mappings: vec![v1::IdMapping {
            host_id: 1000,
            container_id: 0,
            length: 10,
        }],
        ..request("/c/", "")
    };
    let prepared = prepare(&[wanted], &sources, RecursiveReadOnly::Supported).unwrap();
    let mounts: Vec<_> = prepared
        .mounts
        .iter()
        .map(|mount| {
            assert!(mount.uid_mappings().is_some());
            format!(
                "{} {} {}",
                mount.source().as_ref().unwrap().display(),
                mount.destination().display(),
                mount.options().as_ref().unwrap().join(",")
            )
        })
        .collect();
    assert_eq!(mounts, ["/blobs/1 /c/a bind,ro", "/blobs/2 /c/d/b bind,ro"]);
    let records = prepared.records.iter();
    let records: Vec<_> = records
        .map(|record| {
            let image = record.image.as_ref().unwrap();
            (
                record.host_path.as_str(),
                record.readonly,
                image.image.as_str(),
            )
        })
        .collect();
    assert_eq!(
        records,
        [("/blobs/1", true, "1234"), ("/blobs/2", true, "1234")]
    );
}
