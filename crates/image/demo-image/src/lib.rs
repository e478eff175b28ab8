//! The image of `crioxide demo`: this very program, which inside a container is a small web server.
//!
//! Nothing has to be downloaded or embedded: the image is written as an OCI layout from the running executable, and
//! [`Part`] is what that executable does in the container. A dynamically linked program cannot run there, as the
//! image holds no libraries; [`write_layout`] refuses it.
#![forbid(unsafe_code)]

mod inside;
mod layout;
mod web;

use std::io::Write;

pub use layout::{WriteDemoImageError, write_layout};
pub use web::ServeError;

/// The name under which the image is stored.
pub const REFERENCE: &str = "localhost/crioxide-demo:1";
/// The first argument that asks for a [`Part`].
pub const ROLE: &str = "demo-image";
/// Port of the web server.
pub const PORT: u16 = 8080;

/// What the program does in the demo's container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Answers HTTP until it is told to end.
    Web,
    /// Prints who and where it is: for an exec.
    Inside,
}

impl Part {
    /// By the word after [`ROLE`].
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "web" => Some(Self::Web),
            "inside" => Some(Self::Inside),
            _ => None,
        }
    }

    /// The command line in the container.
    #[must_use]
    pub fn command(self) -> [&'static str; 3] {
        let word = match self {
            Self::Web => "web",
            Self::Inside => "inside",
        };
        [layout::PROGRAM, ROLE, word]
    }

    /// Plays the part. `out` is the container's stdout.
    ///
    /// # Errors
    /// When the port cannot be had or `out` not be written to.
    pub fn play(self, out: &mut (impl Write + Send)) -> Result<(), ServeError> {
        match self {
            Self::Web => web::serve(PORT, out),
            Self::Inside => inside::describe(out).map_err(|source| ServeError::Output { source }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Part;

    #[test]
    fn commands_lead_back_to_their_parts() {
        for part in [Part::Web, Part::Inside] {
            assert_eq!(Part::parse(part.command()[2]), Some(part));
        }
        assert_eq!(Part::parse("other"), None);
    }
}
