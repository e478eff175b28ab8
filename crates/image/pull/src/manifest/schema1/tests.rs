use super::*;

fn id(digit: char) -> String {
    digit.to_string().repeat(64)
}

fn digest(digit: char) -> String {
    format!("sha256:{}", id(digit))
}

/// Entries newest first, as in the document: blob, id, parent, more keys.
fn document(entries: &[(char, char, Option<char>, &str)]) -> String {
    let layers: Vec<_> = entries
        .iter()
        .map(|entry| serde_json::json!({"blobSum": digest(entry.0)}))
        .collect();
    let history: Vec<_> = entries
        .iter()
        .map(|(_, own, parent, more)| {
            let parent = parent.map_or(String::new(), |p| format!(r#""parent":"{}","#, id(p)));
            let text = format!(
                r#"{{"id":"{}",{parent}"created":"2016-01-02T03:04:05.5Z"{more}}}"#,
                id(*own)
            );
            serde_json::json!({"v1Compatibility": text})
        })
        .collect();
    serde_json::json!({"schemaVersion": 1, "fsLayers": layers, "history": history}).to_string()
}

fn parse(entries: &[(char, char, Option<char>, &str)]) -> Result<Schema1, String> {
    Schema1::parse(document(entries).as_bytes())
}

#[test]
fn the_config_is_what_other_tools_make() {
    let newest = r#","throwaway":true,"os":"linux","config":{"Cmd":["a","<b>"], "Env": []},"container_config":{"Cmd":["CMD","x"]},"author":"me","Size":7,"architecture":"amd64""#;
    let manifest = parse(&[
        ('e', '3', Some('2'), newest),
        ('b', '2', Some('1'), r#","comment":"a & b""#),
        ('a', '1', None, r#","container_config":{"Cmd":null}"#),
    ])
    .unwrap();
    let blobs: Vec<_> = manifest.blobs().map(ToString::to_string).collect();
    assert_eq!(blobs, [digest('a'), digest('b')]);
    let diff_ids = [digest('c'), digest('d')].map(|text| Digest::parse(&text).unwrap());
    let config = String::from_utf8(manifest.config(&diff_ids).unwrap()).unwrap();
    let expected = format!(
        r#"{{"architecture":"amd64","author":"me","config":{{"Cmd":["a","\u003cb\u003e"],"Env":[]}},"container_config":{{"Cmd":["CMD","x"]}},"created":"2016-01-02T03:04:05.5Z","history":[{{"created":"2016-01-02T03:04:05.5Z"}},{{"created":"2016-01-02T03:04:05.5Z","comment":"a \u0026 b"}},{{"created":"2016-01-02T03:04:05.5Z","author":"me","created_by":"CMD x","empty_layer":true}}],"os":"linux","rootfs":{{"type":"layers","diff_ids":["{}","{}"]}}}}"#,
        digest('c'),
        digest('d')
    );
    assert_eq!(config, expected);
}

#[test]
fn equal_neighbours_are_one_layer() {
    let manifest = parse(&[
        ('c', '2', Some('1'), ""),
        ('b', '1', None, ""),
        ('a', '1', None, ""),
    ])
    .unwrap();
    let blobs: Vec<_> = manifest.blobs().map(ToString::to_string).collect();
    assert_eq!(blobs, [digest('a'), digest('c')]);
}

#[test]
fn chains_that_make_no_sense_are_refused() {
    assert!(parse(&[]).is_err());
    assert!(parse(&[('a', '1', Some('9'), "")]).is_err());
    assert!(parse(&[('b', '2', None, ""), ('a', '1', None, "")]).is_err());
    let twice = [
        ('c', '1', Some('2'), ""),
        ('b', '2', Some('1'), ""),
        ('a', '1', None, ""),
    ];
    assert!(parse(&twice).is_err());
    let text = document(&[('a', '1', None, "")]).replace(&id('1'), "1/../1");
    assert!(Schema1::parse(text.as_bytes()).is_err());
    assert!(Schema1::parse(br#"{"fsLayers":[],"history":[{"v1Compatibility":"{}"}]}"#).is_err());
}

#[test]
fn times_lose_zeros_at_the_end() {
    assert_eq!(go_time(""), NO_TIME);
    assert_eq!(
        go_time("2016-01-02T03:04:05.120Z"),
        "2016-01-02T03:04:05.12Z"
    );
    assert_eq!(
        go_time("2016-01-02T03:04:05.000+02:00"),
        "2016-01-02T03:04:05+02:00"
    );
    assert_eq!(go_time("2016-01-02T03:04:05Z"), "2016-01-02T03:04:05Z");
}
