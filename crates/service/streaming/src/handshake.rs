//! What a client wants to speak, from the headers of its request.

use hyper::header::{
    CONNECTION, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use hyper::{Method, StatusCode};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::websocket::Coding;

const STREAM_PROTOCOL: HeaderName = HeaderName::from_static("x-stream-protocol-version");
const ACCEPTED_PROTOCOLS: HeaderName =
    HeaderName::from_static("x-accepted-stream-protocol-versions");

/// Kinds of sessions, which differ in their protocols.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Exec and attach.
    Command,
    /// Port-forward.
    Forward,
}

const COMMAND_SPDY: &[&str] = &[
    "v4.channel.k8s.io",
    "v3.channel.k8s.io",
    "v2.channel.k8s.io",
    "channel.k8s.io",
];
const FORWARD_SPDY: &[&str] = &["portforward.k8s.io"];
const COMMAND_WEBSOCKET: &[&str] = &[
    "v5.channel.k8s.io",
    "v4.channel.k8s.io",
    "v4.base64.channel.k8s.io",
    "channel.k8s.io",
    "base64.channel.k8s.io",
];
const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";
const FORWARD_WEBSOCKET: &[&str] = &[TUNNEL, "v4.channel.k8s.io", "v4.base64.channel.k8s.io"];

/// How a session's connection is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Carrier {
    Spdy,
    WebSocket(Coding),
    /// SPDY inside a WebSocket.
    Tunnel,
}

/// What was agreed upon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Agreement {
    pub(crate) carrier: Carrier,
    /// Version of the channel protocol, from 1.
    pub(crate) version: u8,
}

/// An answer without a session.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    pub(crate) text: String,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, text: impl Into<String>) -> Self {
        Self {
            status,
            text: text.into(),
            headers: Vec::new(),
        }
    }
}

/// Agrees on a protocol; the headers are those of the answer `101`.
pub(crate) fn agree(
    kind: Kind,
    method: &Method,
    headers: &HeaderMap,
) -> Result<(Agreement, HeaderMap), Refusal> {
    let upgrade = |name: &str| {
        headers
            .get_all(UPGRADE)
            .iter()
            .any(|value| value.as_bytes().eq_ignore_ascii_case(name.as_bytes()))
    };
    let asked = values(headers, &CONNECTION)
        .iter()
        .any(|value| value.to_ascii_lowercase().contains("upgrade"));
    if asked && upgrade("websocket") {
        websocket(kind, method, headers)
    } else {
        spdy(kind, headers, asked && upgrade("SPDY/3.1"))
    }
}

fn spdy(kind: Kind, headers: &HeaderMap, upgrade: bool) -> Result<(Agreement, HeaderMap), Refusal> {
    let offered = match kind {
        Kind::Command => COMMAND_SPDY,
        Kind::Forward => FORWARD_SPDY,
    };
    if !upgrade {
        return Err(Refusal::new(
            StatusCode::BAD_REQUEST,
            "unable to upgrade: missing upgrade headers in request",
        ));
    }
    let wanted = values(headers, &STREAM_PROTOCOL);
    let mut answer = HeaderMap::new();
    // The oldest clients ask for nothing.
    let mut version = 1;
    if !wanted.is_empty() {
        let Some(chosen) = wanted.iter().find(|name| offered.contains(&name.as_str())) else {
            let mut refusal = Refusal::new(
                StatusCode::FORBIDDEN,
                format!(
                    "unable to upgrade: unable to negotiate protocol: client supports {wanted:?}, server accepts {offered:?}"
                ),
            );
            for protocol in offered {
                let protocol = HeaderValue::from_static(protocol);
                refusal.headers.push((ACCEPTED_PROTOCOLS, protocol));
            }
            return Err(refusal);
        };
        version = version_of(chosen);
        put(&mut answer, STREAM_PROTOCOL, chosen);
    }
    answer.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    answer.insert(UPGRADE, HeaderValue::from_static("SPDY/3.1"));
    let carrier = Carrier::Spdy;
    Ok((Agreement { carrier, version }, answer))
}

fn websocket(
    kind: Kind,
    method: &Method,
    headers: &HeaderMap,
) -> Result<(Agreement, HeaderMap), Refusal> {
    let refuse = |text: &str| Refusal::new(StatusCode::BAD_REQUEST, text);
    let key = headers
        .get(SEC_WEBSOCKET_KEY)
        .ok_or_else(|| refuse("unable to upgrade websocket connection: there is no key"))?;
    if *method != Method::GET
        || headers
            .get(SEC_WEBSOCKET_VERSION)
            .map(HeaderValue::as_bytes)
            != Some(b"13")
    {
        return Err(refuse(
            "unable to upgrade websocket connection: only version 13 by GET is served",
        ));
    }
    let offered = match kind {
        Kind::Command => COMMAND_WEBSOCKET,
        Kind::Forward => FORWARD_WEBSOCKET,
    };
    let wanted = values(headers, &SEC_WEBSOCKET_PROTOCOL);
    let chosen = match wanted.iter().find(|name| offered.contains(&name.as_str())) {
        None if wanted.is_empty() => "",
        None => {
            return Err(Refusal::new(
                StatusCode::FORBIDDEN,
                format!(
                    "requested protocol(s) are not supported: {wanted:?}; supports {offered:?}"
                ),
            ));
        }
        Some(chosen) => chosen.as_str(),
    };
    let mut answer = HeaderMap::new();
    if !chosen.is_empty() {
        put(&mut answer, SEC_WEBSOCKET_PROTOCOL, chosen);
    }
    put(
        &mut answer,
        SEC_WEBSOCKET_ACCEPT,
        &derive_accept_key(key.as_bytes()),
    );
    answer.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    answer.insert(UPGRADE, HeaderValue::from_static("websocket"));
    let version = version_of(chosen);
    let carrier = if chosen == TUNNEL {
        Carrier::Tunnel
    } else {
        Carrier::WebSocket(Coding {
            base64: chosen.contains("base64"),
            end_signal: version >= 5,
        })
    };
    Ok((Agreement { carrier, version }, answer))
}

fn put(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    // What was agreed upon is among our own constants, or base64.
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

fn version_of(protocol: &str) -> u8 {
    protocol
        .strip_prefix('v')
        .and_then(|rest| rest.split('.').next()?.parse().ok())
        .unwrap_or(1)
}

/// All values of a header, also those written in one with commas.
fn values(headers: &HeaderMap, name: &HeaderName) -> Vec<String> {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|value| value.trim().to_owned())
        .filter(|value| !value.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            );
        }
        headers
    }

    fn spdy_asking(protocols: &[&'static str]) -> Result<(Agreement, HeaderMap), Refusal> {
        let mut all = vec![("connection", "Upgrade"), ("upgrade", "SPDY/3.1")];
        all.extend(protocols.iter().map(|p| ("x-stream-protocol-version", *p)));
        agree(Kind::Command, &Method::POST, &headers(&all))
    }

    #[test]
    fn the_clients_first_choice_that_we_speak() {
        for (asked, version) in [
            (&["v4.channel.k8s.io", "v3.channel.k8s.io"][..], 4),
            (&["v5.channel.k8s.io", "v2.channel.k8s.io"], 2),
            (&["v9.channel.k8s.io, v3.channel.k8s.io"], 3),
            (&["channel.k8s.io"], 1),
            (&[], 1),
        ] {
            let (agreement, answer) = spdy_asking(asked).unwrap();
            assert_eq!(agreement.version, version, "{asked:?}");
            assert_eq!(agreement.carrier, Carrier::Spdy);
            assert_eq!(answer.contains_key(STREAM_PROTOCOL), !asked.is_empty());
        }
        let refusal = spdy_asking(&["v9.channel.k8s.io"]).unwrap_err();
        assert_eq!(refusal.status, StatusCode::FORBIDDEN);
        assert_eq!(refusal.headers.len(), 4);
    }

    #[test]
    fn a_plain_request_is_refused() {
        let refusal = agree(Kind::Command, &Method::GET, &headers(&[])).unwrap_err();
        assert_eq!(refusal.status, StatusCode::BAD_REQUEST);
    }

    fn websocket_asking(kind: Kind, protocol: &'static str) -> Result<Agreement, Refusal> {
        let mut all = vec![
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "WebSocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        if !protocol.is_empty() {
            all.push(("sec-websocket-protocol", protocol));
        }
        let (agreement, answer) = agree(kind, &Method::GET, &headers(&all))?;
        // The example of RFC 6455.
        assert_eq!(answer[SEC_WEBSOCKET_ACCEPT], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        Ok(agreement)
    }

    #[test]
    fn websocket_protocols() {
        let coding = |base64, end_signal| Carrier::WebSocket(Coding { base64, end_signal });
        for (protocol, carrier, version) in [
            ("v5.channel.k8s.io", coding(false, true), 5),
            ("v4.channel.k8s.io", coding(false, false), 4),
            ("v4.base64.channel.k8s.io", coding(true, false), 4),
            ("base64.channel.k8s.io", coding(true, false), 1),
            ("channel.k8s.io, v5.channel.k8s.io", coding(false, false), 1),
            ("", coding(false, false), 1),
        ] {
            let agreement = websocket_asking(Kind::Command, protocol).unwrap();
            assert_eq!((agreement.carrier, agreement.version), (carrier, version));
        }
        let tunnel = websocket_asking(Kind::Forward, TUNNEL).unwrap();
        assert_eq!(tunnel.carrier, Carrier::Tunnel);
        assert!(websocket_asking(Kind::Forward, "v5.channel.k8s.io").is_err());
        assert!(websocket_asking(Kind::Command, "chat").is_err());
    }
}
