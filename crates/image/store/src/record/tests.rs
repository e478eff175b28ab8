use super::*;
use crate::records::go_json;

/// Every record of the file, parsed and encoded again, is the text it came from.
fn survives<R: Record>(golden: &str) -> Vec<R> {
    let texts: Vec<&serde_json::value::RawValue> = serde_json::from_str(golden).unwrap();
    let parse = |text: &&serde_json::value::RawValue| {
        let record: R = serde_json::from_str(text.get()).unwrap();
        let written = String::from_utf8(go_json::to_vec(&record).unwrap()).unwrap();
        assert_eq!(written, text.get());
        record
    };
    texts.iter().map(parse).collect()
}

#[test]
fn records_of_a_node_are_written_back_byte_for_byte() {
    let layers = survives::<LayerRecord>(include_str!("../../tests/golden/layers.json"));
    assert_eq!(layers[0].gids, [0, 8]);
    assert_eq!(layers[0].compression, Compression::Gzip.code());
    assert!(!layers[1].is_incomplete());
    let volatile = survives::<LayerRecord>(include_str!("../../tests/golden/volatile-layers.json"));
    assert_eq!(volatile[0].metadata, "<opaque & odd>");
    let images = survives::<ImageRecord>(include_str!("../../tests/golden/images.json"));
    assert_eq!(images[0].digests().count(), 3);
    let containers =
        survives::<ContainerRecord>(include_str!("../../tests/golden/volatile-containers.json"));
    assert!(containers[0].is_volatile() && !containers[1].is_volatile());
    survives::<MountRecord>(include_str!("../../tests/golden/mountpoints.json"));
}

#[test]
fn unknown_fields_and_nulls_survive() {
    let text = r#"{"id":"x","created":"t","names":null,"new-field":{"z":1,"a":[2]}}"#;
    let record: LayerRecord = serde_json::from_str(text).unwrap();
    let written = String::from_utf8(go_json::to_vec(&record).unwrap()).unwrap();
    assert_eq!(
        written,
        r#"{"id":"x","created":"t","new-field":{"z":1,"a":[2]}}"#
    );
}
