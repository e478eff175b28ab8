//! `[crio.runtime.workloads.<name>]` and its `resources`.

option_table! {
    /// `[crio.runtime.workloads.<name>.resources]`: what a container of the workload gets unless overridden.
    pub struct WorkloadResources for WorkloadResources, at [] in "resources" {
        /// CPU shares.
        cpushares: u64 = Integer(0) => .file_only();
        /// CPU quota in microseconds per period.
        cpuquota: i64 = Integer(0) => .file_only();
        /// CPU period in microseconds, at least 1000.
        cpuperiod: u64 = Integer(0) => .file_only();
        /// CPUs, such as 0-1,4.
        cpuset: String = Text("") => .file_only();
        /// CPU limit in thousandths of a CPU. It overrides the quota.
        cpulimit: i64 = Integer(0) => .file_only();
    }
}

option_table! {
    /// `[crio.runtime.workloads.<name>]`: pods that carry an annotation get other resources.
    pub struct Workload for Workload, at [] in "workload" {
        /// Annotation key that makes a pod part of the workload. Its value does not matter.
        activation_annotation: String = Text("") => .file_only();
        /// Prefix of the pod annotations that override resources: <prefix>/<container name>.
        annotation_prefix: String = Text("") => .file_only();
        /// Annotations that pods of the workload may use.
        allowed_annotations: Vec<String> = List(&[]) => .file_only();
    }
    derived {
        /// `resources`, a table of options of its own.
        resources: WorkloadResources = WorkloadResources::default();
    }
}
