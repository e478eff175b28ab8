//! Damaged manifests and configs: each is read or refused.

use super::*;
use crate::config::ImageConfig;
use proptest::prelude::*;
use proptest::sample::Index;

const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn documents() -> Vec<String> {
    let descriptor = format!(
        r#"{{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"{DIGEST}","size":12,"urls":["https://a/b"],"annotations":{{"a":"b"}}}}"#
    );
    vec![
        format!(
            r#"{{"schemaVersion":2,"mediaType":"{OCI_MANIFEST}","config":{descriptor},"layers":[{descriptor},{descriptor}],"annotations":null}}"#
        ),
        format!(
            r#"{{"schemaVersion":2,"manifests":[{{"digest":"{DIGEST}","size":1,"platform":{{"os":"linux","architecture":"arm","variant":"v7","os.features":["x"]}}}}]}}"#
        ),
        format!(
            r#"{{"schemaVersion":1,"name":"a/b","tag":"1","architecture":"amd64","fsLayers":[{{"blobSum":"{DIGEST}"}}],"history":[{{"v1Compatibility":"{{\"id\":\"a\",\"created\":\"2016-01-01T00:00:00Z\",\"config\":{{}}}}"}}],"signatures":[]}}"#
        ),
        format!(
            r#"{{"architecture":"amd64","os":"linux","created":"2023-11-14T22:13:20Z","config":{{"User":"1:2","Env":["A=B"],"Volumes":{{"/v":{{}}}},"ExposedPorts":{{"80/tcp":{{}}}},"StopSignal":"15"}},"rootfs":{{"type":"layers","diff_ids":["{DIGEST}"]}}}}"#
        ),
    ]
}

proptest! {
    #[test]
    fn damaged_documents_are_read_or_refused(
        which in any::<Index>(),
        damage in prop::collection::vec((any::<Index>(), any::<u8>()), 0..6),
        moved in prop::option::of((any::<Index>(), any::<Index>())),
    ) {
        let mut bytes = which.get(&documents()).clone().into_bytes();
        for (index, value) in damage {
            let at = index.index(bytes.len());
            bytes[at] = value;
        }
        // A part twice.
        if let Some((from, to)) = moved {
            let (from, to) = (from.index(bytes.len()), to.index(bytes.len()));
            let part = bytes[from..].to_vec();
            bytes.splice(to..to, part);
        }
        let digest = Digest::parse(DIGEST).unwrap();
        if let Ok(Manifest::Image(image)) = Manifest::parse(&bytes, "", &digest) {
            prop_assert!(image.layers.iter().all(|layer| Digest::parse(layer.digest.as_str()).is_ok()));
        }
        let _ = Schema1::parse(&bytes);
        let _ = ImageConfig::parse(&bytes);
    }
}
