//! Messages that carry secrets print without them.

use std::fmt;

use crate::v1::AuthConfig;

fn mark(secret: &str) -> &'static str {
    if secret.is_empty() { "" } else { "****" }
}

impl fmt::Debug for AuthConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthConfig")
            .field("username", &self.username)
            .field("password", &mark(&self.password))
            .field("auth", &mark(&self.auth))
            .field("server_address", &self.server_address)
            .field("identity_token", &mark(&self.identity_token))
            .field("registry_token", &mark(&self.registry_token))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_printed() {
        let auth = AuthConfig {
            username: "user".into(),
            password: "pw-secret".into(),
            auth: "b64-secret".into(),
            identity_token: "id-secret".into(),
            registry_token: "reg-secret".into(),
            ..Default::default()
        };
        let text = format!("{auth:?}");
        assert!(text.contains("user"), "{text}");
        assert!(!text.contains("secret"), "{text}");
    }
}
