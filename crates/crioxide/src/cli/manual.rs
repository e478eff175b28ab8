//! `man` and `markdown`: the manual pages, from the grammar and the option table.

use clap::{ArgMatches, Command};
use crioxide_config::{OptionSpec, RuntimeHandler, TABLES, Workload, WorkloadResources};

use super::roff::Page;
use super::{command, output};

const DESCRIPTION: &str = "Daemon that runs the pods and containers of a Kubernetes node. The kubelet asks for them \
    over the container runtime interface. Without a command the daemon is started.";

pub(crate) fn run_man(name: &str, matches: &ArgMatches) -> anyhow::Result<()> {
    let section = matches.get_one::<String>("section").map(String::as_str);
    output::print(&if section == Some("5") {
        configuration_page()
    } else {
        program_page(name)
    })
}

pub(crate) fn run_markdown(name: &str) -> anyhow::Result<()> {
    output::print(&program_markdown(name))
}

/// Flags or commands as the reader types them, with their help.
struct Entry {
    term: String,
    help: String,
}

fn flags(grammar: &Command) -> Vec<Entry> {
    let shown = grammar
        .get_arguments()
        .filter(|arg| !arg.is_hide_set() && arg.get_long().is_some());
    shown
        .map(|arg| {
            let mut term = format!("--{}", arg.get_long().unwrap_or_default());
            if let Some(letter) = arg.get_short() {
                term.push_str(&format!(", -{letter}"));
            }
            if let Some(name) = arg.get_value_names().and_then(|names| names.first()) {
                term.push_str(&format!("={name}"));
            }
            Entry {
                term,
                help: arg.get_help().map(ToString::to_string).unwrap_or_default(),
            }
        })
        .collect()
}

fn commands(grammar: &Command) -> impl Iterator<Item = (Entry, Vec<Entry>)> {
    grammar
        .get_subcommands()
        .filter(|command| !command.is_hide_set())
        .map(|command| {
            let names: Vec<_> = std::iter::once(command.get_name())
                .chain(command.get_visible_aliases())
                .collect();
            let mut below = flags(command);
            below.extend(commands(command).map(|(entry, _)| entry));
            let help = command
                .get_about()
                .map(ToString::to_string)
                .unwrap_or_default();
            (
                Entry {
                    term: names.join(", "),
                    help,
                },
                below,
            )
        })
}

fn program_page(name: &str) -> String {
    let grammar = command::command(name);
    let mut page = Page::new(name, "8", "System administration");
    page.section("NAME");
    page.paragraph(&format!("{name} - container runtime daemon for Kubernetes"));
    page.section("SYNOPSIS");
    page.paragraph(&format!("{name} [flags] [command [flags]]"));
    page.section("DESCRIPTION");
    page.paragraph(DESCRIPTION);
    page.section("FLAGS");
    for flag in flags(&grammar) {
        page.item(&flag.term, &flag.help);
    }
    page.section("COMMANDS");
    for (entry, below) in commands(&grammar) {
        page.subsection(&entry.term);
        page.paragraph(&entry.help);
        for flag in below {
            page.item(&flag.term, &flag.help);
        }
    }
    page.section("SEE ALSO");
    page.paragraph("crio.conf(5), policy.json(5), registries.conf(5), storage.conf(5)");
    page.finish()
}

fn program_markdown(name: &str) -> String {
    let grammar = command::command(name);
    let mut text = format!(
        "# {name}(8)\n\n{DESCRIPTION}\n\n    {name} [flags] [command [flags]]\n\n## Flags\n\n"
    );
    for flag in flags(&grammar) {
        text.push_str(&format!("- `{}`: {}\n", flag.term, flag.help));
    }
    text.push_str("\n## Commands\n");
    for (entry, below) in commands(&grammar) {
        text.push_str(&format!("\n### {}\n\n{}\n\n", entry.term, entry.help));
        for flag in below {
            text.push_str(&format!("- `{}`: {}\n", flag.term, flag.help));
        }
    }
    text
}

fn configuration_page() -> String {
    let mut page = Page::new("crio.conf", "5", "File formats");
    page.section("NAME");
    page.paragraph("crio.conf - configuration of the container runtime daemon");
    page.section("DESCRIPTION");
    page.paragraph(
        "The file is TOML. It is read from /etc/crio/crio.conf, then every file below /etc/crio/crio.conf.d in \
         lexical order of their paths; later values win. Environment variables and flags win over all files.",
    );
    page.section("TABLES");
    for table in TABLES {
        page.subsection(&format!("[{}]", table.name));
        page.paragraph(table.doc);
        keys(&mut page, table.options);
    }
    page.subsection("[crio.runtime.runtimes.<handler>]");
    page.paragraph("One OCI runtime, by the handler name that pods ask for.");
    keys(&mut page, RuntimeHandler::OPTIONS);
    page.subsection("[crio.runtime.workloads.<name>]");
    page.paragraph("Resources for pods that carry an annotation.");
    keys(&mut page, Workload::OPTIONS);
    page.subsection("[crio.runtime.workloads.<name>.resources]");
    page.paragraph("What a container of the workload gets unless overridden.");
    keys(&mut page, WorkloadResources::OPTIONS);
    page.finish()
}

fn keys<Owner>(page: &mut Page, options: &[OptionSpec<Owner>]) {
    for option in options {
        let mut text = option.summary();
        let default = option.default.to_value().to_string();
        if !default.is_empty() {
            text.push_str(&format!(" (default: {default})"));
        }
        if option.reload.is_some() {
            text.push_str(" Takes effect on reload.");
        }
        if let Some(instead) = option.deprecated {
            text.push_str(&format!(" Deprecated: use {instead}."));
        }
        page.item(&format!("{} = {}", option.key, option.kind.name()), &text);
    }
}
