use super::*;

fn digest(digit: char) -> String {
    format!("sha256:{}", digit.to_string().repeat(64))
}

fn parse(text: &str) -> Result<Manifest, ManifestError> {
    Manifest::parse(text.as_bytes(), "", &Digest::parse(&digest('f')).unwrap())
}

#[test]
fn an_image_has_config_and_layers() {
    let text = format!(
        r#"{{"schemaVersion":2,"mediaType":"{OCI_MANIFEST}","config":{{"mediaType":"{OCI_CONFIG}","digest":"{}","size":2}},
            "layers":[{{"mediaType":"x","digest":"{}","size":3,"urls":["http://elsewhere"]}}],"annotations":null}}"#,
        digest('1'),
        digest('2')
    );
    let Manifest::Image(image) = parse(&text).unwrap() else {
        panic!("not an image")
    };
    assert_eq!(image.config.digest.as_str(), digest('1'));
    assert_eq!((image.layers.len(), image.layers[0].size), (1, 3));
}

#[test]
fn a_list_is_told_by_its_content_when_no_type_is_given() {
    let text = format!(
        r#"{{"schemaVersion":2,"manifests":[{{"digest":"{}","size":1,"platform":{{"os":"linux","architecture":"arm","variant":"v7"}}}},
            {{"digest":"{}","size":1}}]}}"#,
        digest('1'),
        digest('2')
    );
    let Manifest::List(instances) = parse(&text).unwrap() else {
        panic!("not a list")
    };
    let list = Digest::parse(&digest('f')).unwrap();
    let arm = Platform {
        os: "linux".into(),
        architecture: "arm".into(),
        variant: "v8".into(),
    };
    assert_eq!(
        choose(&instances, &arm, &list).unwrap().digest.as_str(),
        digest('1')
    );
    let other = Platform {
        os: "linux".into(),
        architecture: "s390x".into(),
        variant: String::new(),
    };
    let error = choose(&instances, &other, &list).unwrap_err().to_string();
    assert!(
        error.contains("linux/s390x") && error.contains("linux/arm/v7"),
        "{error}"
    );
}

#[test]
fn hostile_manifests_are_refused() {
    let config = format!(
        r#""config":{{"mediaType":"{OCI_CONFIG}","digest":"{}","size":1}}"#,
        digest('1')
    );
    let layer = format!(r#"{{"digest":"{}","size":1}}"#, digest('2'));
    for text in [
        "".to_owned(),
        "[]".to_owned(),
        "{}".to_owned(),
        r#"{"schemaVersion":1}"#.to_owned(),
        r#"{"schemaVersion":2}"#.to_owned(),
        format!(r#"{{"schemaVersion":2,{config},"layers":[],"manifests":[]}}"#),
        format!(r#"{{"schemaVersion":2,{config},"layers":[{{"digest":"sha256:../../x","size":1}}]}}"#),
        format!(r#"{{"schemaVersion":2,{config},"layers":[{{"digest":"{}","size":-1}}]}}"#, digest('1')),
        format!(r#"{{"schemaVersion":2,{config},"layers":[{}]}}"#, vec![layer; 501].join(",")),
        format!(r#"{{"schemaVersion":2,"artifactType":"application/x",{config},"layers":[]}}"#),
        r#"{"schemaVersion":2,"config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":"sha256:1","size":1}}"#.to_owned(),
    ] {
        assert!(parse(&text).is_err(), "{}", &text[..text.len().min(200)]);
    }
}

#[test]
fn a_synthesized_manifest_parses_back() {
    let content = |digit| Descriptor {
        media_type: String::new(),
        digest: Digest::parse(&digest(digit)).unwrap(),
        size: 7,
        urls: Vec::new(),
        annotations: Default::default(),
    };
    let bytes = synthesize(&content('1'), &[content('2'), content('3')]);
    let Manifest::Image(image) = parse(std::str::from_utf8(&bytes).unwrap()).unwrap() else {
        panic!("not an image")
    };
    assert_eq!(image.layers[1].digest.as_str(), digest('3'));
}
