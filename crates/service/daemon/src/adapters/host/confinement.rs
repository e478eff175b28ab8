//! Seccomp and AppArmor profiles.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use crioxide_cri_api::v1;
use crioxide_engine::ports::{ConfinementRequest, PortError};
use crioxide_files::read_limited;
use crioxide_runtime_spec::{
    Confinement, apparmor,
    request::Privilege,
    seccomp::{self, KernelVersion, Profile, Target, WantedProfile, resolve::native_arch},
};
use oci_spec::runtime::{Capabilities, LinuxSeccomp};

/// Largest profile that is read, bytes.
const PROFILE_MAX: u64 = 4 << 20;

/// Configured profiles.
#[derive(Debug, Default)]
pub(crate) struct Profiles {
    /// `seccomp_profile`.
    pub(crate) seccomp: Option<PathBuf>,
    /// `privileged_seccomp_profile`.
    pub(crate) privileged: Option<PathBuf>,
    /// Handlers with a profile of their own.
    pub(crate) of_handler: BTreeMap<String, PathBuf>,
    /// `apparmor_profile`.
    pub(crate) apparmor: String,
}

impl Profiles {
    /// The profiles of one process.
    pub(super) fn choose(&self, request: &ConfinementRequest) -> Result<Confinement, PortError> {
        let privilege = if request.privileged {
            Privilege::Privileged
        } else {
            Privilege::Restricted
        };
        Ok(Confinement {
            seccomp: self.seccomp(request, privilege)?,
            apparmor_profile: self.apparmor(request)?,
            ..Confinement::default()
        })
    }

    fn seccomp(
        &self,
        request: &ConfinementRequest,
        privilege: Privilege,
    ) -> Result<Option<LinuxSeccomp>, PortError> {
        let file = match seccomp::wanted(request.seccomp.as_ref(), privilege)? {
            WantedProfile::Unconfined => return Ok(None),
            WantedProfile::Privileged => match &self.privileged {
                Some(path) => Some(path.clone()),
                None => return Ok(None),
            },
            WantedProfile::Localhost(path) => Some(path),
            WantedProfile::RuntimeDefault => {
                // A configured profile that is gone falls back to the built-in one, as in CRI-O.
                let path = self
                    .of_handler
                    .get(&request.handler)
                    .or(self.seccomp.as_ref());
                path.filter(|path| path.exists()).cloned()
            }
        };
        let capabilities: Capabilities = request.capabilities.iter().copied().collect();
        let target = Target {
            arch: native_arch(),
            capabilities: &capabilities,
            kernel: kernel_version()?,
        };
        let resolved = match file {
            None => seccomp::builtin().resolve(target)?,
            Some(path) => load(&path)?.resolve(target)?,
        };
        Ok(Some(resolved))
    }

    fn apparmor(&self, request: &ConfinementRequest) -> Result<Option<String>, PortError> {
        let enabled = super::apparmor::state();
        let security = v1::LinuxContainerSecurityContext {
            apparmor: request.apparmor.clone(),
            privileged: request.privileged,
            ..Default::default()
        };
        let chosen = apparmor::choose(Some(&security), &self.apparmor, enabled)?;
        let Some(profile) = chosen.filter(|profile| profile != apparmor::UNCONFINED) else {
            return Ok(None);
        };
        if super::apparmor::is_loaded(&profile)? {
            return Ok(Some(profile));
        }
        if profile == self.apparmor {
            static WARNED: OnceLock<()> = OnceLock::new();
            WARNED.get_or_init(|| {
                tracing::warn!(
                    "AppArmor profile {profile} is not loaded: containers run without it"
                );
            });
            return Ok(None);
        }
        Err(format!("AppArmor profile \"{profile}\" specified but not loaded").into())
    }
}

fn load(path: &Path) -> Result<Profile, PortError> {
    let content = read_limited(path, PROFILE_MAX)?;
    Ok(Profile::parse(&path.to_string_lossy(), &content)?)
}

fn kernel_version() -> Result<KernelVersion, PortError> {
    static VERSION: OnceLock<Result<KernelVersion, String>> = OnceLock::new();
    let version = VERSION.get_or_init(|| {
        let release = rustix::system::uname()
            .release()
            .to_string_lossy()
            .into_owned();
        release
            .parse()
            .map_err(|error: seccomp::resolve::ParseKernelVersionError| error.to_string())
    });
    version.clone().map_err(Into::into)
}
