//! How a session went, as its client is told.

use serde::Serialize;

/// How a session went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    Success,
    /// The command ended with another code than zero.
    Exit(i32),
    /// It could not be done.
    Failed(String),
}

#[derive(Debug, Serialize)]
struct Status<'a> {
    status: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<Details<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<u16>,
}

#[derive(Debug, Serialize)]
struct Details<'a> {
    causes: [Cause<'a>; 1],
}

#[derive(Debug, Serialize)]
struct Cause<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    message: String,
}

impl Outcome {
    /// The bytes for the error channel: a status object from version 4 on, before that only the words of a failure.
    pub(crate) fn message(&self, version: u8) -> Vec<u8> {
        let words = match self {
            Self::Success => None,
            Self::Exit(code) => Some(format!(
                "command terminated with non-zero exit code: exit status {code}"
            )),
            Self::Failed(text) => Some(format!("Internal error occurred: {text}")),
        };
        if version < 4 {
            return words.unwrap_or_default().into_bytes();
        }
        let failure = |reason, details, code| Status {
            status: "Failure",
            message: words.clone(),
            reason: Some(reason),
            details: Some(details),
            code,
        };
        let status = match self {
            Self::Success => Status {
                status: "Success",
                message: None,
                reason: None,
                details: None,
                code: None,
            },
            Self::Exit(code) => {
                let cause = Cause {
                    reason: Some("ExitCode"),
                    message: code.to_string(),
                };
                failure("NonZeroExitCode", Details { causes: [cause] }, None)
            }
            Self::Failed(text) => {
                let cause = Cause {
                    reason: None,
                    message: text.clone(),
                };
                failure("InternalError", Details { causes: [cause] }, Some(500))
            }
        };
        // Strings and numbers always become JSON.
        serde_json::to_vec(&status).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_clients_parse() {
        let text = |outcome: Outcome, version| String::from_utf8(outcome.message(version)).unwrap();
        assert_eq!(text(Outcome::Success, 4), r#"{"status":"Success"}"#);
        assert_eq!(text(Outcome::Success, 3), "");
        assert_eq!(
            text(Outcome::Exit(3), 5),
            r#"{"status":"Failure","message":"command terminated with non-zero exit code: exit status 3","reason":"NonZeroExitCode","details":{"causes":[{"reason":"ExitCode","message":"3"}]}}"#
        );
        assert_eq!(
            text(Outcome::Exit(3), 1),
            "command terminated with non-zero exit code: exit status 3"
        );
        assert_eq!(
            text(Outcome::Failed("no".to_owned()), 4),
            r#"{"status":"Failure","message":"Internal error occurred: no","reason":"InternalError","details":{"causes":[{"message":"no"}]},"code":500}"#
        );
    }
}
