//! The grammar of the command line, with every flag from the option table.

use clap::{Arg, ArgAction, Command};
use crioxide_config::{CommandLineOptions, Kind, OptionSpec, TABLES, Visibility};

use super::version::{Depth, VersionInfo};

/// The whole grammar for a program called `name`.
pub(crate) fn command(name: &str) -> Command {
    let version = VersionInfo::collect(Depth::Short).to_string();
    let mut command = Command::new(name.to_owned())
        .about("Container runtime daemon for Kubernetes")
        .after_help(format!("VERSION:\n{}", indented(&version)))
        .disable_version_flag(true)
        .disable_help_subcommand(true)
        .allow_external_subcommands(true)
        .arg(
            Arg::new("version")
                .short('v')
                .long("version")
                .action(ArgAction::SetTrue)
                .help("Print the version"),
        );
    for option in CommandLineOptions::OPTIONS {
        command = command.args(argument(option, "Command line"));
    }
    for table in TABLES {
        for option in table.options {
            command = command.args(argument(option, table.name));
        }
    }
    command.subcommands(subcommands())
}

/// The flag of an option, if it has one. Values stay text: the option table knows how to read them.
fn argument<Owner>(option: &OptionSpec<Owner>, heading: &'static str) -> Option<Arg> {
    let flag = option.flag()?;
    let mut arg = Arg::new(flag.clone())
        .long(flag)
        .action(ArgAction::Append)
        .help_heading(heading)
        .help(help(option))
        .hide(option.visibility == Visibility::Hidden);
    arg = match option.kind {
        Kind::Bool => arg
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
            .value_name("BOOL"),
        Kind::Integer => arg.allow_hyphen_values(true).value_name("NUMBER"),
        Kind::Duration => arg.allow_hyphen_values(true).value_name("DURATION"),
        Kind::Text => arg.allow_hyphen_values(true).value_name("VALUE"),
        Kind::List | Kind::Map => arg.allow_hyphen_values(true).value_name("VALUE,..."),
    };
    if let Some(letter) = option.short {
        arg = arg.short(letter);
    }
    if let Some(alias) = option.alias {
        arg = arg.visible_alias(alias);
    }
    Some(arg)
}

fn help<Owner>(option: &OptionSpec<Owner>) -> String {
    let mut text = option.summary();
    if let Some(instead) = option.deprecated {
        text.push_str(&format!(" Deprecated: use {instead}."));
    }
    let default = option.default.to_value().to_string();
    if !matches!(default.as_str(), "" | "[]") {
        text.push_str(&format!(" (default: {default})"));
    }
    let variables = option.variables();
    if !variables.is_empty() {
        text.push_str(&format!(" [${}]", variables.join(", $")));
    }
    text
}

fn subcommands() -> Vec<Command> {
    let switch = |name: &'static str, letter: char, help: &'static str| {
        Arg::new(name)
            .long(name)
            .short(letter)
            .action(ArgAction::SetTrue)
            .help(help)
    };
    vec![
        Command::new("config")
            .about("Print the documented configuration; what differs from the defaults is not commented out")
            .arg(
                Arg::new("default")
                    .long("default")
                    .action(ArgAction::SetTrue)
                    .help("Print the defaults, nothing commented out"),
            ),
        Command::new("check")
            .about("Examine the store; no daemon may run")
            .arg(
                Arg::new("age")
                    .long("age")
                    .short('a')
                    .value_name("DURATION")
                    .default_value("24h")
                    .help("How old a layer without user may be"),
            )
            .arg(switch("force", 'f', "Remove damaged containers too"))
            .arg(switch("repair", 'r', "Remove what is damaged"))
            .arg(switch("quick", 'q', "Do not read the content of layers"))
            .arg(switch("wipe", 'w', "Remove everything when the repair fails")),
        Command::new("complete")
            .visible_alias("completion")
            .about("Print a shell completion script")
            .arg(Arg::new("shell").value_parser(["bash", "fish", "zsh"]).default_value("bash")),
        crate::demo::command(),
        super::image::command(),
        Command::new("man")
            .about("Print a manual page in roff")
            .arg(
                Arg::new("section")
                    .value_parser(["8", "5"])
                    .default_value("8")
                    .help("8 for the program, 5 for its configuration file"),
            ),
        Command::new("markdown").visible_alias("md").about("Print the manual page of the program in Markdown"),
        Command::new("publish").hide(true).arg(
            // containerd shims announce events this way; nobody listens.
            Arg::new("arguments").num_args(0..).trailing_var_arg(true).allow_hyphen_values(true),
        ),
        status(),
        Command::new("help").visible_alias("h").about("Print this help"),
        Command::new("version")
            .about("Print version and build information")
            .arg(switch("json", 'j', "Print JSON"))
            .arg(switch("verbose", 'v', "Print the dependencies too")),
        Command::new("wipe")
            .about("Remove containers after a reboot and images after an upgrade")
            .arg(switch("force", 'f', "Remove them in any case")),
    ]
}

fn status() -> Command {
    Command::new("status")
        .about("Ask the running daemon")
        .arg(
            Arg::new("socket")
                .long("socket")
                .short('s')
                .value_name("PATH")
                .help("Socket of the daemon (default: the configured one)"),
        )
        .subcommand(Command::new("config").visible_alias("c").about("Print the running configuration"))
        .subcommand(
            Command::new("containers")
                .visible_aliases(["container", "cs", "s"])
                .about("Print what is known of a container")
                .arg(Arg::new("id").long("id").short('i').value_name("ID").help("Id of the container")),
        )
        .subcommand(Command::new("info").visible_alias("i").about("Print drivers and id mappings"))
        .subcommand(Command::new("goroutines").visible_alias("g").about("Print what each task and thread does"))
        .subcommand(
            Command::new("heap").visible_alias("hp").about("Write a memory profile").arg(
                Arg::new("file")
                    .long("file")
                    .short('f')
                    .value_name("FILE")
                    .help("Where to; - is standard output (default: a new file in the directory for temporary files)"),
            ),
        )
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("   {line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grammar_is_consistent() {
        command("crio").debug_assert();
    }

    #[test]
    fn flags_are_read_as_crio_reads_them() {
        let matches = command("crio")
            .try_get_matches_from([
                "crio",
                "-c",
                "",
                "--pids-limit",
                "-1",
                "--selinux=false",
                "--tz",
                "Local",
                "config",
            ])
            .unwrap();
        let text = |flag: &str| {
            matches
                .get_many::<String>(flag)
                .unwrap()
                .cloned()
                .collect::<Vec<_>>()
        };
        assert_eq!(text("config"), [""]);
        assert_eq!(text("pids-limit"), ["-1"]);
        assert_eq!(text("selinux"), ["false"]);
        assert_eq!(text("timezone"), ["Local"]);
        assert_eq!(matches.subcommand_name(), Some("config"));
    }
}
