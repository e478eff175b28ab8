//! Real containers under real monitors. The program plays the spawner too, which must be a single-threaded process of
//! its own, and so it has no test harness; it understands `--list` and a name as filter.

#![expect(
    clippy::unwrap_used,
    reason = "a test may unwrap: the panic is its report"
)]

mod attach;
mod bundle;
mod execs;
mod failures;
mod kept;
mod lifecycle;
mod logs;
mod pod;

use std::future::Future;
use std::pin::Pin;

use pod::Runtime;

/// First argument that makes this program a spawner.
pub(crate) const SPAWNER_ROLE: &str = "play-the-spawner";

type TestFuture = Pin<Box<dyn Future<Output = ()>>>;
type Test = (&'static str, fn(Runtime) -> TestFuture);

macro_rules! tests {
    ($($module:ident :: $name:ident),* $(,)?) => {
        &[$((stringify!($name), |runtime| Box::pin($module::$name(runtime)) as TestFuture)),*]
    };
}

const TESTS: &[Test] = tests![
    lifecycle::exit_codes_and_records,
    lifecycle::a_memory_kill_is_reported,
    lifecycle::what_happened_while_nobody_was_connected_is_known,
    lifecycle::twenty_containers_share_one_monitor,
    lifecycle::a_killed_monitor_is_noticed,
    lifecycle::a_background_process_does_not_hold_the_exit_back,
    logs::output_is_logged_by_line_and_stream,
    logs::rotation_loses_nothing,
    logs::terminal_output_is_logged,
    execs::output_exit_code_and_signals,
    execs::a_dropped_handle_ends_the_process,
    execs::a_terminal_is_handed_over,
    attach::clients_see_output_and_type,
    attach::the_control_fifo_reopens_the_log,
    kept::a_shims_container_is_logged_and_recorded,
    kept::a_shims_container_that_was_not_made_leaves_nothing,
    kept::the_end_of_typing_is_told_to_the_shim,
    failures::a_failed_create_leaves_nothing,
    failures::a_hanging_runtime_is_killed,
    failures::nonsense_is_refused,
];

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.first().is_some_and(|arg| arg == SPAWNER_ROLE) {
        let control = crioxide_sys::descriptors::take_inherited(0)
            .expect("the control socket is standard input");
        std::process::exit(crioxide_monitor::spawner::run(control));
    }
    if args.iter().any(|arg| arg == "--list") {
        if !args.iter().any(|arg| arg == "--ignored") {
            TESTS.iter().for_each(|(name, _)| println!("{name}: test"));
        }
        return;
    }
    let filters: Vec<&String> = args.iter().filter(|arg| !arg.starts_with('-')).collect();
    if !rustix::process::geteuid().is_root() {
        println!("skipped: needs root");
        return;
    }
    let runtimes = Runtime::available();
    for (name, test) in TESTS {
        if !filters.is_empty() && !filters.iter().any(|filter| name.contains(filter.as_str())) {
            continue;
        }
        for runtime in &runtimes {
            let tokio = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build()
                .unwrap();
            println!("test {name} ({}) ...", runtime.name());
            tokio.block_on(test(runtime.clone()));
        }
    }
    println!("test result: ok");
}
