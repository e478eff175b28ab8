//! What belongs to a pod as a whole: its name, labels, files, logs, ports and kernel parameters.

pub mod annotation_filter;
pub mod files;
pub mod hostname;
pub mod labels;
pub mod log_path;
pub mod port_mappings;
pub mod sysctls;
