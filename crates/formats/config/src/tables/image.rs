//! `[crio.image]`

use std::path::PathBuf;
use std::time::Duration;

use super::Config;
use crate::reload::ReloadKind;
use crate::value::choice::{ImageVolumes, ShortNameMode};

option_table! {
    /// `[crio.image]`: how images are found, verified and pulled.
    pub struct ImageConfig for Config, at [image] in "crio.image" {
        /// Transport put before image names that carry none.
        default_transport: String = Text("docker://");
        /// Registry credentials, in docker's JSON format, for requests that bring none.
        global_auth_file: Option<PathBuf> = Text("");
        /// Directory of per-namespace registry credentials, named
        /// <namespace>-<sha256 of the repository name>.json. Must be absolute.
        namespaced_auth_dir: PathBuf = Text("/etc/crio/auth") => .hidden();
        /// Image of the infra container. It is never garbage-collected.
        pause_image: String = Text("registry.k8s.io/pause:3.10.1") => .reload(ReloadKind::PauseImage);
        /// Registry credentials for the pause image only.
        pause_image_auth_file: Option<PathBuf> = Text("") => .reload(ReloadKind::PauseImage);
        /// Command of the infra container. Empty takes the image's entrypoint and command.
        pause_command: String = Text("/pause") => .reload(ReloadKind::PauseImage);
        /// Images that the kubelet must not garbage-collect: exact names, prefix* or *keyword*.
        pinned_images: Vec<String> = List(&[]) => .reload(ReloadKind::PinnedImages);
        /// Signature policy. Empty takes the system's /etc/containers/policy.json.
        signature_policy: Option<PathBuf> = Text("");
        /// Directory of per-namespace signature policies, named <namespace>.json. Must be absolute.
        signature_policy_dir: PathBuf = Text("/etc/crio/policies");
        /// Accepted for old configurations and without effect: use registries.conf.
        insecure_registries: Vec<String> = List(&[])
            => .named("insecure-registry").deprecated("`insecure = true` in registries.conf");
        /// What becomes of volumes that images declare: mkdir (a directory in the root filesystem),
        /// bind (a directory outside of it) or ignore.
        image_volumes: ImageVolumes = Text("mkdir");
        /// Directory for large temporary files of pulls. Empty takes /var/tmp.
        big_files_temporary_dir: Option<PathBuf> = Text("");
        /// Reload registries.conf and registries.conf.d when they change, without a signal.
        auto_reload_registries: bool = Bool(false) => .env(&["AUTO_RELOAD_REGISTRIES"]);
        /// Abort a pull that makes no progress for this long. 0s never does.
        pull_progress_timeout: Duration = Text("0s");
        /// enforcing refuses a short image name that more than one registry could mean;
        /// disabled takes the first that has it.
        short_name_mode: ShortNameMode = Text("enforcing");
        /// Let containers mount OCI artifacts as image volumes.
        oci_artifact_mount_support: bool = Bool(true) => .env(&["CONTAINER_OCI_ARTIFACT_SUPPORT"]);
    }
}
