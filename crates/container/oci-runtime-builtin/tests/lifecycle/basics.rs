//! Create, start, kill, delete, and what a container sees.

use crioxide_oci_runtime::{ContainerStatus, DeleteMode, KillScope, OciRuntime, RuntimeError};
use crioxide_sys::reap::Ending;

use crate::bundles::{TestContainer, can_run};

#[test]
fn runs_to_its_exit_code() {
    if !can_run() {
        return;
    }
    let container = TestContainer::new("hostname; echo $$; id -u; echo $HOME; exit 7");
    let outcome = container.run().unwrap();
    assert_eq!(outcome.output, "testhost\n1\n0\n/root\n");
    assert_eq!(outcome.ending, Ending::Exited(7));
    assert_eq!(
        container.runtime().state(&container.id).unwrap().status,
        ContainerStatus::Stopped
    );
}

#[test]
fn states_follow_the_life() {
    if !can_run() {
        return;
    }
    let container = TestContainer::new("exec sleep 1000");
    let runtime = container.runtime();
    let status = || runtime.state(&container.id).unwrap().status;
    let waiting = container.create().unwrap();
    assert_eq!(status(), ContainerStatus::Created);
    assert_eq!(
        runtime.state(&container.id).unwrap().pid,
        waiting.pid.as_raw_nonzero().get()
    );
    runtime.start(&container.id).unwrap();
    assert_eq!(status(), ContainerStatus::Running);
    assert!(matches!(
        runtime.start(&container.id),
        Err(RuntimeError::WrongState { .. })
    ));
    runtime.pause(&container.id).unwrap();
    assert_eq!(status(), ContainerStatus::Paused);
    runtime.resume(&container.id).unwrap();
    assert_eq!(status(), ContainerStatus::Running);
    assert!(matches!(
        runtime.delete(&container.id, DeleteMode::Stopped),
        Err(RuntimeError::WrongState { .. })
    ));
    runtime.kill(&container.id, 9, KillScope::Init).unwrap();
    assert_eq!(
        waiting.finish().ending,
        Ending::Signaled {
            signal: 9,
            core_dumped: false
        }
    );
    assert_eq!(status(), ContainerStatus::Stopped);
    assert!(matches!(
        runtime.kill(&container.id, 15, KillScope::Init),
        Err(RuntimeError::NotRunning { .. })
    ));
    runtime.delete(&container.id, DeleteMode::Stopped).unwrap();
    assert!(matches!(
        runtime.state(&container.id),
        Err(RuntimeError::NotFound { .. })
    ));
    assert!(!container.state_root().join(&container.id).exists());
    assert!(
        !std::path::Path::new("/sys/fs/cgroup/memory")
            .join(&container.id)
            .exists()
    );
}
