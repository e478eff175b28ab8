//! The addresses given out: each is good for one connection, within a minute.

use std::collections::{HashMap, VecDeque};
use std::sync::Mutex;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use crioxide_cri_api::v1;
use tokio::time::Instant;

/// How long a token is good.
const LIFE: Duration = Duration::from_secs(60);

/// Most tokens given out and not used.
const MOST: usize = 1000;

/// Six bytes are eight characters.
const BYTES: usize = 6;

/// What a client may do.
#[derive(Debug, Clone)]
pub(crate) enum StreamRequest {
    Exec(v1::ExecRequest),
    Attach(v1::AttachRequest),
    PortForward(v1::PortForwardRequest),
}

/// Why there is no token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoToken {
    TooMany,
    NoRandomness,
}

#[derive(Debug, Default)]
struct State {
    requests: HashMap<String, StreamRequest>,
    /// In the order of their ends.
    ends: VecDeque<(Instant, String)>,
}

/// Requests by their tokens.
#[derive(Debug, Default)]
pub(crate) struct Tokens(Mutex<State>);

impl Tokens {
    /// Keeps a request and returns its token.
    pub(crate) fn insert(&self, request: StreamRequest) -> Result<String, NoToken> {
        let mut state = self.0.lock().expect("no holder of this lock panics");
        let now = Instant::now();
        state.forget_old(now);
        if state.requests.len() >= MOST {
            return Err(NoToken::TooMany);
        }
        loop {
            let mut random = [0; BYTES];
            getrandom::fill(&mut random).map_err(|_| NoToken::NoRandomness)?;
            let token = URL_SAFE_NO_PAD.encode(random);
            if !state.requests.contains_key(&token) {
                state.requests.insert(token.clone(), request);
                state.ends.push_back((now + LIFE, token.clone()));
                return Ok(token);
            }
        }
    }

    /// The request of a token, which is of no use any more then.
    pub(crate) fn take(&self, token: &str) -> Option<StreamRequest> {
        let mut state = self.0.lock().expect("no holder of this lock panics");
        state.forget_old(Instant::now());
        state.requests.remove(token)
    }
}

impl State {
    fn forget_old(&mut self, now: Instant) {
        while let Some((end, token)) = self.ends.front() {
            // Used ones stay in line until their time, unless there are many.
            if *end > now && self.requests.contains_key(token) {
                break;
            }
            self.requests.remove(token);
            self.ends.pop_front();
        }
        if self.ends.len() > 2 * MOST {
            let requests = &self.requests;
            self.ends.retain(|(_, token)| requests.contains_key(token));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(id: &str) -> StreamRequest {
        StreamRequest::Attach(v1::AttachRequest {
            container_id: id.to_owned(),
            ..Default::default()
        })
    }

    #[tokio::test(start_paused = true)]
    async fn good_once_and_for_a_minute() {
        let tokens = Tokens::default();
        let first = tokens.insert(request("a")).unwrap();
        assert_eq!(first.len(), 8);
        assert!(
            first
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        );
        assert!(matches!(
            tokens.take(&first),
            Some(StreamRequest::Attach(_))
        ));
        assert!(tokens.take(&first).is_none());
        let second = tokens.insert(request("b")).unwrap();
        tokio::time::advance(Duration::from_secs(59)).await;
        let third = tokens.insert(request("c")).unwrap();
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!(tokens.take(&second).is_none());
        assert!(tokens.take(&third).is_some());
        assert!(tokens.take("").is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn there_is_a_most() {
        let tokens = Tokens::default();
        let all: Vec<String> = (0..MOST)
            .map(|_| tokens.insert(request("a")).unwrap())
            .collect();
        assert_eq!(tokens.insert(request("a")), Err(NoToken::TooMany));
        assert!(tokens.take(&all[500]).is_some());
        assert!(tokens.insert(request("a")).is_ok());
        assert_eq!(tokens.insert(request("a")), Err(NoToken::TooMany));
        tokio::time::advance(LIFE).await;
        assert!(tokens.insert(request("a")).is_ok());
        // Many that are used at once leave nothing either.
        for _ in 0..10 * MOST {
            let token = tokens.insert(request("a")).unwrap();
            assert!(tokens.take(&token).is_some());
        }
        assert!(tokens.0.lock().unwrap().ends.len() <= 2 * MOST + 1);
    }
}
