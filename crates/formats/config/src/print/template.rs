//! The documented configuration file that `config` prints.

use crate::load::resolve::HostDefaults;
use crate::option::OptionSpec;
use crate::print::encode::{bare_or_quoted, handler_entries, toml_value};
use crate::tables::{Config, RuntimeHandler, TABLES, Workload, WorkloadResources};

/// Which keys are live, that is, not commented out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// Those that differ from their defaults.
    Changed,
    /// All.
    Everything,
}

const PREFACE: &str = "\
# Configuration of the container runtime daemon, with every option there is.
#
# Options that are commented out have the value that is shown. Drop-in files in
# /etc/crio/crio.conf.d are read after this file, in lexical order of their paths, and
# override it; environment variables and command-line flags override both. Options marked
# (reload) take effect when the daemon receives SIGHUP, all others when it starts.
";

/// The template for `config`. `host` gives the defaults that depend on the machine.
pub fn config_template(config: &Config, host: &HostDefaults, detail: Detail) -> String {
    let defaults = crate::load::resolve::defaults_on(host);
    let mut text = PREFACE.to_owned();
    for table in TABLES {
        text.push_str(&format!("\n# {}\n[{}]\n", table.doc, table.name));
        for option in table.options {
            let live = detail == Detail::Everything || option.get(config) != option.get(&defaults);
            document(&mut text, option);
            entry(
                &mut text,
                option.key,
                &toml_value(&option.get(config)),
                live,
            );
        }
        if table.name == "crio.runtime" {
            let live = detail == Detail::Everything || config.runtimes != defaults.runtimes;
            runtimes(&mut text, config, live);
            workloads(&mut text, config, detail);
        }
    }
    text
}

fn runtimes(text: &mut String, config: &Config, live: bool) {
    text.push_str(
        "\n# OCI runtimes by the handler name that pods ask for. A handler that is declared again in a later\n\
         # file replaces the earlier one as a whole.\n#\n",
    );
    glossary(
        text,
        "crio.runtime.runtimes.<handler>",
        RuntimeHandler::OPTIONS,
    );
    for (name, handler) in &config.runtimes {
        text.push('\n');
        let mark = if live { "" } else { "# " };
        text.push_str(&format!(
            "{mark}[crio.runtime.runtimes.{}]\n",
            bare_or_quoted(name)
        ));
        for (key, value) in handler_entries(handler) {
            entry(text, key, &toml_value(&value), live);
        }
    }
}

fn workloads(text: &mut String, config: &Config, detail: Detail) {
    text.push_str("\n# Workloads: pods that carry an annotation get other resources.\n#\n");
    glossary(text, "crio.runtime.workloads.<name>", Workload::OPTIONS);
    text.push_str("#\n");
    glossary(
        text,
        "crio.runtime.workloads.<name>.resources",
        WorkloadResources::OPTIONS,
    );
    // There is no workload by default, so each one is a change.
    let live = detail == Detail::Everything || !config.workloads.is_empty();
    for (name, workload) in &config.workloads {
        let table = format!("crio.runtime.workloads.{}", bare_or_quoted(name));
        text.push_str(&format!("\n[{table}]\n"));
        for option in Workload::OPTIONS {
            entry(text, option.key, &toml_value(&option.get(workload)), live);
        }
        text.push_str(&format!("\n[{table}.resources]\n"));
        for option in WorkloadResources::OPTIONS {
            entry(
                text,
                option.key,
                &toml_value(&option.get(&workload.resources)),
                live,
            );
        }
    }
}

fn glossary<Owner>(text: &mut String, table: &str, options: &[OptionSpec<Owner>]) {
    text.push_str(&format!("# [{table}]\n"));
    for option in options {
        text.push_str(&format!(
            "# - {} ({}): {}\n",
            option.key,
            option.kind.name(),
            option.summary()
        ));
    }
}

fn document<Owner>(text: &mut String, option: &OptionSpec<Owner>) {
    text.push('\n');
    for line in option.doc {
        text.push_str(&format!("# {}\n", line.trim()));
    }
    if option.reload.is_some() {
        text.push_str("# (reload)\n");
    }
    if let Some(instead) = option.deprecated {
        text.push_str(&format!("# Deprecated: use {instead}.\n"));
    }
}

fn entry(text: &mut String, key: &str, value: &str, live: bool) {
    let mark = if live { "" } else { "# " };
    text.push_str(&format!("{mark}{key} = {value}\n"));
}
