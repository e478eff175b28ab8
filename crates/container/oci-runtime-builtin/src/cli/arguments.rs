//! The commands and their flags, named as runc names them.

use clap::{Arg, ArgAction, Command};

/// Where state is kept when `--root` is not given.
const DEFAULT_ROOT: &str = "/run/crioxide-oci";

/// The whole command line.
pub(super) fn command() -> Command {
    Command::new("crioxide-oci")
        .about("Create and run containers from OCI bundles")
        .version(concat!(env!("CARGO_PKG_VERSION"), "\nspec: 1.2.0"))
        .subcommand_required(true)
        .args([
            value("root")
                .default_value(DEFAULT_ROOT)
                .help("Directory for the state of containers"),
            value("log").help("File that errors are appended to"),
            value("log-format")
                .default_value("text")
                .value_parser(["text", "json"])
                .help("Format of the log file"),
            value("rootless").help("Accepted for compatibility"),
            value("cgroup-manager")
                .value_parser(["cgroupfs", "systemd", "disabled"])
                .help("As crun's"),
            flag("systemd-cgroup")
                .help("Let systemd make cgroups; paths are then `slice:prefix:name`"),
            flag("debug").help("Accepted for compatibility"),
        ])
        .subcommand(creating("create").about("Create a container that waits for its start"))
        .subcommand(
            creating("run")
                .about("Create and start a container and wait for its end")
                .args([flag("detach").short('d'), flag("keep")]),
        )
        .subcommand(
            Command::new("start")
                .about("Start a created container")
                .arg(id()),
        )
        .subcommand(
            Command::new("state")
                .about("Show the state of a container")
                .arg(id()),
        )
        .subcommand(
            Command::new("kill")
                .about("Send a signal to a container")
                .args([
                    flag("all").short('a'),
                    id(),
                    Arg::new("signal").default_value("SIGTERM"),
                ]),
        )
        .subcommand(
            Command::new("delete")
                .about("Give back what a container holds")
                .args([flag("force").short('f'), id()]),
        )
        .subcommand(executing())
        .subcommand(Command::new("list").about("List containers").args([
            flag("quiet").short('q'),
            value("format").short('f').default_value("table"),
        ]))
        .subcommand(Command::new("pause").about("Freeze a container").arg(id()))
        .subcommand(Command::new("resume").about("Thaw a container").arg(id()))
        .subcommand(
            Command::new("update")
                .about("Change the limits of a container")
                .args([
                    value("resources")
                        .short('r')
                        .required(true)
                        .help("JSON file, `-` for stdin"),
                    id(),
                ]),
        )
        .subcommand(Command::new("features").about("Show what the runtime supports"))
        .subcommand(
            Command::new("spec")
                .about("Write an example configuration")
                .arg(value("bundle").short('b')),
        )
}

fn creating(name: &'static str) -> Command {
    Command::new(name).args([
        value("bundle").short('b').default_value("."),
        value("console-socket"),
        value("pid-file"),
        value("preserve-fds")
            .value_parser(clap::value_parser!(u32))
            .default_value("0"),
        flag("no-pivot"),
        flag("no-new-keyring"),
        flag("no-subreaper"),
        id(),
    ])
}

fn executing() -> Command {
    Command::new("exec")
        .about("Run a further process in a container")
        .args([
            value("console-socket"),
            value("pid-file"),
            value("process").short('p').help("JSON file of the process"),
            value("preserve-fds")
                .value_parser(clap::value_parser!(u32))
                .default_value("0"),
            value("cwd"),
            value("env").short('e').action(ArgAction::Append),
            value("user").short('u').help("uid[:gid]"),
            value("additional-gids")
                .short('g')
                .value_parser(clap::value_parser!(u32))
                .action(ArgAction::Append),
            value("cap").short('c').action(ArgAction::Append),
            value("apparmor"),
            value("process-label"),
            flag("detach").short('d'),
            flag("tty").short('t'),
            flag("no-new-privs"),
            id(),
            Arg::new("command")
                .num_args(0..)
                .trailing_var_arg(true)
                .allow_hyphen_values(true),
        ])
}

fn value(name: &'static str) -> Arg {
    Arg::new(name).long(name)
}

fn flag(name: &'static str) -> Arg {
    Arg::new(name).long(name).action(ArgAction::SetTrue)
}

fn id() -> Arg {
    Arg::new("id").required(true).value_name("container-id")
}
