//! youki as a handler, where it is installed. No Debian has it; `cargo install youki` does.

use anyhow::Result;
use crioxide_test_support::{requirements, skip_unless};

use crate::scene::possible;
use crate::streaming::exec;
use crate::survival::restart::{End, pods_survive};

const HANDLER: &str = "youki";

fn youki_possible() -> Result<(), String> {
    possible()?;
    requirements::program("youki").map(drop)
}

macro_rules! the_same_with_youki {
    ($($name:ident: $test:expr;)+) => {
        $(#[tokio::test(flavor = "multi_thread")]
        async fn $name() -> Result<()> {
            skip_unless!(youki_possible());
            $test.await
        })+
    };
}

the_same_with_youki! {
    has_a_pods_life: crate::smoke::pod_from_start_to_end(HANDLER);
    gives_the_same_world: crate::handlers::contract(HANDLER);
    execs: crate::lifecycle::execs(HANDLER);
    reopens_a_rotated_log: crate::lifecycle::rotated_log(HANDLER);
    tells_of_too_much_memory: crate::resources::oom_kill(HANDLER);
    changes_limits: crate::resources::limits(HANDLER);
    tells_what_is_used: crate::resources::usage(HANDLER);
    pauses_and_is_inspected: crate::resources::metrics::inspected(HANDLER);
    watches_an_infra_container: crate::variants::one_pid_namespace(HANDLER);
    outlives_a_killed_daemon: pods_survive(End::Killed, HANDLER);
    outlives_a_daemon: pods_survive(End::Graceful, HANDLER);
    streams_whole: exec::big_streams(HANDLER);
    gives_terminals: exec::in_a_terminal(HANDLER);
    ends_a_session_with_its_command: exec::left_behind(HANDLER);
    lives_under_conmon: crate::smoke::pod_from_start_to_end("conmon-youki");
}
