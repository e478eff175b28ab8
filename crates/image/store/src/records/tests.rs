use super::*;
use crate::record::LayerRecord;
use std::fs;
use std::path::Path;

fn records(directory: &Path) -> Records<LayerRecord> {
    let file = |name: &str| RecordFile {
        path: directory.join(name),
        sync: Sync::None,
    };
    let files = vec![file("layers.json"), file("volatile-layers.json")];
    Records::new(
        vec![directory.join("layers.lock")],
        files,
        LockAccess::ReadWrite,
    )
}

fn layer(id: &str, names: &[&str]) -> LayerRecord {
    LayerRecord {
        id: id.into(),
        names: names.iter().map(|&name| name.into()).collect(),
        created: "0001-01-01T00:00:00Z".into(),
        ..Default::default()
    }
}

#[test]
fn what_one_writes_another_reads_from_the_right_file() {
    let dir = tempfile::tempdir().unwrap();
    let (ours, theirs) = (records(dir.path()), records(dir.path()));
    assert_eq!(theirs.read().unwrap().iter().count(), 0);
    let mut transaction = ours.write().unwrap();
    transaction.insert(layer("a", &["one"]), 0).unwrap();
    transaction.insert(layer("b", &[]), 1).unwrap();
    transaction.save().unwrap();
    drop(transaction);
    let seen = theirs.read().unwrap();
    assert_eq!(seen.by_name("one").unwrap().id, "a");
    assert!(
        fs::read_to_string(dir.path().join("volatile-layers.json"))
            .unwrap()
            .contains("\"b\"")
    );
    let mut transaction = theirs.write().unwrap();
    transaction.remove("b");
    transaction.save().unwrap();
    drop(transaction);
    assert!(ours.read().unwrap().get("b").is_none());
    assert_eq!(
        fs::read_to_string(dir.path().join("volatile-layers.json")).unwrap(),
        "[]"
    );
}

#[test]
fn a_file_replaced_without_a_token_is_noticed_by_its_stamp() {
    let dir = tempfile::tempdir().unwrap();
    let records = records(dir.path());
    records.read().unwrap();
    fs::write(
        dir.path().join("layers.json"),
        r#"[{"id":"x","created":"t"}]"#,
    )
    .unwrap();
    assert!(records.read().unwrap().get("x").is_some());
}

#[test]
fn an_abandoned_transaction_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let records = records(dir.path());
    let mut transaction = records.write().unwrap();
    transaction.insert(layer("a", &[]), 0).unwrap();
    drop(transaction);
    assert!(records.read().unwrap().get("a").is_none());
}

#[test]
fn a_name_moves_to_whoever_gets_it_last() {
    let dir = tempfile::tempdir().unwrap();
    let records = records(dir.path());
    let mut transaction = records.write().unwrap();
    transaction.insert(layer("a", &["n", "m"]), 0).unwrap();
    transaction.insert(layer("b", &["n"]), 0).unwrap();
    transaction.save().unwrap();
    drop(transaction);
    let table = records.read().unwrap();
    assert_eq!(table.by_name("n").unwrap().id, "b");
    assert_eq!(table.get("a").unwrap().names, ["m"]);
}

#[test]
fn duplicates_in_a_file_are_repaired_by_the_next_writer() {
    let dir = tempfile::tempdir().unwrap();
    let text = r#"[{"id":"a","names":["n"],"created":"t","kept":1},{"id":"b","names":["n"],"created":"t"},{"id":"a","created":"second"}]"#;
    fs::write(dir.path().join("layers.json"), text).unwrap();
    let records = records(dir.path());
    let table = records.read().unwrap();
    assert_eq!(table.iter().count(), 2);
    assert_eq!(table.by_name("n").unwrap().id, "b");
    records.write().unwrap().save().unwrap();
    let repaired = fs::read_to_string(dir.path().join("layers.json")).unwrap();
    assert_eq!(
        repaired,
        r#"[{"id":"a","created":"t","kept":1},{"id":"b","names":["n"],"created":"t"}]"#
    );
}

#[test]
fn damage_is_an_error_that_names_the_file() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("layers.json"), "[{]").unwrap();
    let error = records(dir.path()).read().unwrap_err();
    assert!(error.to_string().contains("layers.json"), "{error}");
}

#[test]
fn what_a_power_cut_tore_is_lost_if_it_may_be_and_written_anew() {
    let torn: [&[u8]; 3] = [&[0; 40], br#"[{"id":"b","#, b"[\0\0\0]"];
    for bytes in torn {
        let dir = tempfile::tempdir().unwrap();
        let mut ours = records(dir.path());
        ours.files[0].sync = Sync::Data;
        let mut first = ours.write().unwrap();
        first.insert(layer("a", &[]), 0).unwrap();
        first.insert(layer("b", &[]), 1).unwrap();
        first.save().unwrap();
        drop(first);
        let volatile = dir.path().join("volatile-layers.json");
        fs::write(&volatile, bytes).unwrap();
        let mut fresh = records(dir.path());
        fresh.files[0].sync = Sync::Data;
        fresh.remove_leftovers().unwrap();
        let left = fresh.read().unwrap();
        assert!(left.get("a").is_some() && left.get("b").is_none());
        assert_eq!(fs::read_to_string(&volatile).unwrap(), "[]");
        // What was flushed cannot be torn by that.
        fs::write(dir.path().join("layers.json"), bytes).unwrap();
        assert!(fresh.read().is_err());
    }
}
