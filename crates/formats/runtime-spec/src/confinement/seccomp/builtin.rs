//! The profile containers get when nothing else is configured.
//!
//! It allows what ordinary programs use, answers what they merely probe with `ENOSYS`, and refuses new namespaces to
//! containers without `CAP_SYS_ADMIN`. `clone3` hides its flags from the filter, so libraries are told it does not exist.

use std::sync::LazyLock;

use super::profile::Profile;

static BUILTIN: LazyLock<Profile> = LazyLock::new(|| {
    Profile::parse("built-in profile", include_bytes!("builtin.json"))
        .expect("the embedded profile is checked by tests")
});

/// The built-in profile, parsed once.
#[must_use]
pub fn builtin() -> &'static Profile {
    &BUILTIN
}
