//! Answers to challenges: basic credentials or a token from a token server.

use std::time::Instant;

use reqwest::header::WWW_AUTHENTICATE;
use reqwest::{Response, StatusCode, Url};

use super::request::{Failure, host_of};
use super::respond::{self, read_body};
use super::{FetchError, Repository};
use crate::auth::{Challenge, Credentials, Token, TokenAnswer, TokenKey};
use crate::secret::Secret;

/// A token server's answer is not larger (bytes).
const MAX_TOKEN_ANSWER: u64 = 1 << 20;

/// A bearer challenge's particulars.
struct TokenRequest<'a> {
    realm: &'a str,
    service: Option<&'a str>,
    scopes: Vec<String>,
}

impl Repository {
    /// The `Authorization` for a request to a registry that has challenged before.
    pub(super) async fn known_authorization(&self, what: &str) -> Result<Option<Secret>, Failure> {
        let challenge = self.learned().challenge.clone();
        match challenge {
            None => Ok(None),
            Some(Challenge::Basic) => Ok(self.basic()),
            Some(bearer) => self.token(what, &bearer).await.map(Some),
        }
    }

    /// The `Authorization` that a 401 asks for; `None` when there is nothing (more) to offer.
    pub(super) async fn answer_challenge(
        &self,
        what: &str,
        response: &Response,
        sent: bool,
    ) -> Result<Option<Secret>, Failure> {
        let headers = response.headers().get_all(WWW_AUTHENTICATE).iter();
        let Some(challenge) = Challenge::choose(headers.filter_map(|value| value.to_str().ok()))
        else {
            return Ok(None);
        };
        self.learned().challenge = Some(challenge.clone());
        match challenge {
            Challenge::Basic if sent => Ok(None),
            Challenge::Basic => Ok(self.basic()),
            bearer @ Challenge::Bearer { .. } => {
                if sent {
                    self.tokens().remove(&self.token_key()); // revoked, or without what is asked for
                }
                self.token(what, &bearer).await.map(Some)
            }
        }
    }

    /// The message for a final 401.
    pub(super) fn explain_unauthorized(&self, error: FetchError) -> FetchError {
        match error {
            FetchError::Unauthorized { what, detail } if self.credentials.is_some() => {
                FetchError::Unauthorized {
                    what,
                    detail: format!("invalid username/password: {detail}"),
                }
            }
            other => other,
        }
    }

    fn basic(&self) -> Option<Secret> {
        self.credentials
            .as_ref()
            .and_then(Credentials::basic_header)
    }

    fn tokens(&self) -> std::sync::MutexGuard<'_, std::collections::HashMap<TokenKey, Token>> {
        self.client
            .tokens
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn token_key(&self) -> TokenKey {
        TokenKey {
            host: self.host.clone(),
            repository: self.path.clone(),
            credentials: self.credentials.clone(),
        }
    }

    /// A token for this repository as a header value, from the cache or from the token server.
    async fn token(&self, what: &str, challenge: &Challenge) -> Result<Secret, Failure> {
        let key = self.token_key();
        let cached = self
            .tokens()
            .get(&key)
            .filter(|token| token.is_fresh())
            .cloned();
        let token = match cached {
            Some(token) => token,
            None => {
                let token = self.fetch_token(what, challenge).await?;
                let mut tokens = self.tokens();
                tokens.retain(|_, token| token.is_fresh());
                tokens.insert(key, token.clone());
                token
            }
        };
        Ok(Secret::new(format!("Bearer {}", token.value.expose())))
    }

    async fn fetch_token(&self, what: &str, challenge: &Challenge) -> Result<Token, Failure> {
        let Challenge::Bearer {
            realm,
            service,
            scope,
        } = challenge
        else {
            return Err(self.token_flaw(what, "no bearer challenge").into());
        };
        let mut scopes = vec![format!("repository:{}:pull", self.path)];
        scopes.extend(scope.clone().filter(|scope| !scopes.contains(scope)));
        let request = TokenRequest {
            realm,
            service: service.as_deref(),
            scopes,
        };
        let url = self.token_url(what, realm)?;
        let requested = Instant::now();
        let response = match &self.credentials {
            Some(Credentials::IdentityToken(token)) => {
                self.exchange(what, url, &request, token).await?
            }
            _ => self.ask(what, url, &request).await?,
        };
        let response = match respond::check(what, request.realm, response).await {
            Ok(response) => response,
            Err(Failure {
                error: FetchError::Denied { what, detail },
                retry,
            }) => {
                let error = FetchError::Unauthorized {
                    what,
                    detail: format!("unauthorized{detail}"),
                };
                return Err(Failure {
                    error: self.explain_unauthorized(error),
                    retry,
                });
            }
            Err(Failure { error, retry }) => {
                return Err(Failure {
                    error: self.explain_unauthorized(error),
                    retry,
                });
            }
        };
        let progress = self.client.settings.progress_timeout;
        let body = read_body(what, &self.host, response, MAX_TOKEN_ANSWER, progress).await?;
        let answer: TokenAnswer = serde_json::from_slice(&body)
            .map_err(|_| self.token_flaw(what, "the token server sent no token"))?;
        answer.into_token(requested).ok_or_else(|| {
            self.token_flaw(what, "the token server sent an empty token")
                .into()
        })
    }

    /// Anybody on the path could read a password or token sent without TLS.
    pub(super) fn token_url(&self, what: &str, realm: &str) -> Result<Url, FetchError> {
        let url = Url::parse(realm)
            .map_err(|_| self.token_flaw(what, "the realm of its challenge is no URL"))?;
        match url.scheme() {
            "https" => Ok(url),
            "http" if self.insecure => Ok(url),
            _ => Err(FetchError::InsecureTokenServer {
                what: what.to_owned(),
                host: self.host.clone(),
                realm: realm.to_owned(),
            }),
        }
    }

    async fn ask(
        &self,
        what: &str,
        mut url: Url,
        request: &TokenRequest<'_>,
    ) -> Result<Response, FetchError> {
        {
            let mut query = url.query_pairs_mut();
            if let Some(Credentials::Password { username, .. }) = &self.credentials {
                query.append_pair("account", username);
            }
            if let Some(service) = request.service {
                query.append_pair("service", service);
            }
            for scope in &request.scopes {
                query.append_pair("scope", scope);
            }
        }
        self.follow(what, url, &[], self.basic().as_ref()).await
    }

    /// OAuth 2: an identity token for an access token.
    async fn exchange(
        &self,
        what: &str,
        url: Url,
        request: &TokenRequest<'_>,
        token: &Secret,
    ) -> Result<Response, FetchError> {
        let mut form = Url::parse("form:").map_err(|_| self.token_flaw(what, "no form"))?;
        form.query_pairs_mut()
            .append_pair("grant_type", "refresh_token")
            .append_pair("client_id", "crioxide")
            .append_pair("service", request.service.unwrap_or_default())
            .append_pair("scope", &request.scopes.join(" "))
            .append_pair("refresh_token", token.expose());
        let host = host_of(&url);
        let client = self.client.connection(&host, self.verification())?;
        let body = form.query().unwrap_or_default().to_owned();
        let post = client
            .post(url)
            .header("Content-Type", "application/x-www-form-urlencoded")
            .body(body);
        let response = self.client.timed(what, &host, post).await?;
        if response.status() == StatusCode::NOT_FOUND {
            return Err(self.token_flaw(what, "the token server does not exchange identity tokens"));
        }
        Ok(response)
    }

    fn token_flaw(&self, what: &str, reason: &str) -> FetchError {
        FetchError::Protocol {
            what: format!("a token for {what}"),
            host: self.host.clone(),
            reason: reason.to_owned(),
        }
    }
}
