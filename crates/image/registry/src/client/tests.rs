use crioxide_names::ImageReference;

use super::*;
use crate::conf::RegistriesConf;

fn repository(insecure: bool) -> Repository {
    let reference = ImageReference::parse("registry.example.com/team/app:1").unwrap();
    let mut endpoint = RegistriesConf::default()
        .resolve(&reference)
        .unwrap()
        .primary;
    endpoint.insecure = insecure;
    let client = RegistryClient::new(ClientSettings::default());
    Repository::new(client, &endpoint, None)
}

#[test]
fn token_servers_of_secure_registries_must_use_tls() {
    let secure = repository(false);
    assert!(
        secure
            .token_url("x", "https://auth.example.com/token")
            .is_ok()
    );
    for realm in [
        "http://auth.example.com/token",
        "ftp://auth.example.com",
        "//auth.example.com",
        "",
    ] {
        assert!(secure.token_url("x", realm).is_err(), "{realm}");
    }
    let error = secure
        .token_url("x", "http://auth.example.com/token")
        .unwrap_err();
    assert!(
        matches!(&error, FetchError::InsecureTokenServer { .. }),
        "{error}"
    );
    assert!(
        repository(true)
            .token_url("x", "http://auth.example.com/token")
            .is_ok()
    );
}

#[test]
fn redirects_never_lead_from_tls_to_plain() {
    let headers = |location: &str| {
        let mut headers = reqwest::header::HeaderMap::new();
        headers.insert(reqwest::header::LOCATION, location.parse().unwrap());
        headers
    };
    let url = reqwest::Url::parse("https://registry.example.com/v2/x").unwrap();
    let secure = repository(false);
    assert_eq!(
        secure
            .redirected("x", &url, &headers("/y"))
            .unwrap()
            .as_str(),
        "https://registry.example.com/y"
    );
    for location in ["http://registry.example.com/v2/x", "file:///etc/passwd"] {
        assert!(
            secure.redirected("x", &url, &headers(location)).is_err(),
            "{location}"
        );
    }
    assert!(
        repository(true)
            .redirected("x", &url, &headers("http://other/"))
            .is_ok()
    );
}
