//! Who a container runs as.
//!
//! The account files come from the image and are hostile: they are read line by line with limits, and numbers that do
//! not fit are errors instead of wrapping around to root.

pub mod accounts;
pub mod resolve;
pub mod synthesize;

pub use accounts::AccountFileError;
pub use resolve::{ResolveUserError, UserRequest, resolve};

/// Numbers and names of a user.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResolvedUser {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Supplementary group ids, the primary one among them.
    pub additional_gids: Vec<u32>,
    /// Home directory from the account file, `/` for users it does not know; `None` if nobody asked.
    pub home: Option<String>,
    /// Name from the account file.
    pub name: Option<String>,
}
