//! What SIGHUP changes: the reloadable options, in the order in which CRI-O applies them.

use crate::load::overrides;
use crate::tables::{self, Config};
use crate::value::Value;

/// One step of a reload. Steps are taken in the order of this list; the first that fails ends the reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ReloadKind {
    LogLevel,
    LogFilter,
    PauseImage,
    PinnedImages,
    /// registries.conf and its drop-ins; read anew each time.
    Registries,
    DecryptionKeys,
    /// Profiles are read anew each time, for the file may have changed under its name.
    Seccomp,
    AppArmor,
    BlockIo,
    Rdt,
    /// The runtimes table and the default handler.
    Runtimes,
    CdiSpecDirs,
}

impl ReloadKind {
    /// Every step in order.
    pub const ORDER: [ReloadKind; 12] = [
        ReloadKind::LogLevel,
        ReloadKind::LogFilter,
        ReloadKind::PauseImage,
        ReloadKind::PinnedImages,
        ReloadKind::Registries,
        ReloadKind::DecryptionKeys,
        ReloadKind::Seccomp,
        ReloadKind::AppArmor,
        ReloadKind::BlockIo,
        ReloadKind::Rdt,
        ReloadKind::Runtimes,
        ReloadKind::CdiSpecDirs,
    ];

    /// Whether the step reads files that may have changed although no option did.
    fn rereads_files(self) -> bool {
        matches!(
            self,
            ReloadKind::Registries | ReloadKind::Seccomp | ReloadKind::BlockIo | ReloadKind::Rdt
        )
    }
}

/// An option that a reload changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReloadChange {
    /// Key without its table, as the log names it.
    pub key: &'static str,
    pub value: Value,
}

impl ReloadChange {
    /// The line that is logged once the change is applied.
    pub fn message(&self) -> String {
        format!("Set config {} to \"{}\"", self.key, self.value)
    }
}

/// A step with what it changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReloadStep {
    pub kind: ReloadKind,
    pub changes: Vec<ReloadChange>,
}

/// The steps that lead from `running` to `loaded`. Steps that read files are always there, others only when
/// an option differs.
pub fn reload_steps(running: &Config, loaded: &Config) -> Vec<ReloadStep> {
    ReloadKind::ORDER
        .into_iter()
        .filter_map(|kind| {
            let changes: Vec<_> = tables::options()
                .filter(|option| {
                    option.reload == Some(kind) && option.get(running) != option.get(loaded)
                })
                .map(|option| ReloadChange {
                    key: option.key,
                    value: option.get(loaded),
                })
                .collect();
            let handlers_differ =
                kind == ReloadKind::Runtimes && running.runtimes != loaded.runtimes;
            (kind.rereads_files() || handlers_differ || !changes.is_empty())
                .then_some(ReloadStep { kind, changes })
        })
        .collect()
}

/// Takes over what `step` changes. Options that are not reloadable keep their running values.
pub fn apply_reload_step(step: &ReloadStep, running: &mut Config, loaded: &Config) {
    for option in tables::options().filter(|option| option.reload == Some(step.kind)) {
        debug_assert!(
            overrides::find(&option.path()).is_some(),
            "a reloadable option has a key"
        );
        option
            .set(running, &option.get(loaded))
            .expect("a value that came out of a resolved configuration goes into another one");
    }
    if step.kind == ReloadKind::Runtimes {
        running.runtimes.clone_from(&loaded.runtimes);
    }
}
