//! `[crio.checkpoint_restore]`

use super::Config;
use crate::value::choice::CheckpointLevel;

option_table! {
    /// `[crio.checkpoint_restore]`: checkpoint and restore of containers.
    pub struct CheckpointRestoreConfig for Config, at [checkpoint_restore] in "crio.checkpoint_restore" {
        /// What is offered for single containers: checkpoint_restore, checkpoint_only or none.
        /// Without the criu program it is none.
        container_level_enabled: CheckpointLevel = Text("checkpoint_restore")
            => .named("checkpoint-restore-container-level-enabled");
    }
}
