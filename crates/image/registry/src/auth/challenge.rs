//! The `WWW-Authenticate` header (RFC 9110 §11.6.1) as registries use it.

/// What a registry wants to see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Challenge {
    /// User and password in the request itself.
    Basic,
    /// A token from another server.
    Bearer {
        /// URL of the token server.
        realm: String,
        /// Who the token is for.
        service: Option<String>,
        /// What it must allow; the registry's own wish.
        scope: Option<String>,
    },
}

impl Challenge {
    /// The challenge to answer among all headers of a response: bearer if offered.
    pub(crate) fn choose<'a>(headers: impl Iterator<Item = &'a str>) -> Option<Self> {
        let mut found = None;
        for header in headers {
            for challenge in parse(header) {
                match challenge {
                    Self::Bearer { .. } => return Some(challenge),
                    Self::Basic => found = Some(challenge),
                }
            }
        }
        found
    }
}

/// All known challenges of one header; unknown schemes are passed over.
fn parse(header: &str) -> Vec<Challenge> {
    let mut challenges = Vec::new();
    let mut rest = header.trim_start();
    while !rest.is_empty() {
        let end = rest.find([' ', ',']).unwrap_or(rest.len());
        let scheme = &rest[..end];
        let (parameters, after) = parameters(&rest[end..]);
        let value = |name: &str| {
            parameters
                .iter()
                .find(|(key, _)| key.eq_ignore_ascii_case(name))
                .map(|(_, value)| value.clone())
        };
        if scheme.eq_ignore_ascii_case("basic") {
            challenges.push(Challenge::Basic);
        } else if scheme.eq_ignore_ascii_case("bearer")
            && let Some(realm) = value("realm")
        {
            challenges.push(Challenge::Bearer {
                realm,
                service: value("service"),
                scope: value("scope"),
            });
        }
        rest = after;
    }
    challenges
}

/// `key=value` pairs up to the next scheme, and what follows them.
fn parameters(text: &str) -> (Vec<(String, String)>, &str) {
    let mut pairs = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let token = rest.find([' ', '=', ',']).unwrap_or(rest.len());
        if token == 0 && !rest.is_empty() {
            rest = &rest[1..];
            continue;
        }
        let after = rest[token..].trim_start();
        let Some(value) = after.strip_prefix('=') else {
            return (pairs, rest);
        };
        let key = rest[..token].to_owned();
        let (value, after) = value_of(value.trim_start());
        pairs.push((key, value));
        rest = after;
    }
}

/// One token or quoted string, and what follows it.
fn value_of(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([' ', ',']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut escaped = false;
    for (at, c) in quoted.char_indices() {
        match c {
            _ if escaped => {
                value.push(c);
                escaped = false;
            }
            '\\' => escaped = true,
            '"' => return (value, &quoted[at + 1..]),
            _ => value.push(c),
        }
    }
    (value, "")
}
