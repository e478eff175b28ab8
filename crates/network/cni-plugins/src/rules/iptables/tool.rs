//! Running the programs on one table.

use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use crioxide_cni::{Finished, run_program};

use super::programs::{CANARY, Flavor, Programs};
use super::{IptablesError, Saved, Script, words};

/// The programs exit with this when a rule or chain is not there.
const NOT_THERE: i32 = 1;
/// What a table may print.
const OUTPUT_LIMIT: usize = 64 * 1024 * 1024;
/// How often a change is planned anew because others changed the table meanwhile.
const TRIES: u32 = 3;

/// Held from reading a table to changing it.
static CHANGING: Mutex<()> = Mutex::new(());

/// Whether what a change makes is to be looked after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Watched {
    Yes,
    No,
}

/// A table of one address family.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Iptables<'a> {
    programs: &'a Programs,
    pub(crate) ipv4: bool,
    flavor: Flavor,
    table: &'static str,
    deadline: Instant,
}

impl<'a> Iptables<'a> {
    pub(crate) fn new(
        programs: &'a Programs,
        ipv4: bool,
        flavor: Flavor,
        table: &'static str,
        deadline: Instant,
    ) -> Self {
        Self {
            programs,
            ipv4,
            flavor,
            table,
            deadline,
        }
    }

    /// The host's own choice of programs.
    pub(crate) fn open(
        programs: &'a Programs,
        ipv4: bool,
        table: &'static str,
        deadline: Instant,
    ) -> Result<Self, IptablesError> {
        let flavor = programs.chosen(ipv4, deadline)?;
        Ok(Self::new(programs, ipv4, flavor, table, deadline))
    }

    /// Plans a change of the table as it is, and makes it as a whole.
    pub(crate) fn change<E: From<IptablesError>>(
        &self,
        watched: Watched,
        plan: impl Fn(&Saved) -> Result<Script, E>,
    ) -> Result<(), E> {
        let _one_at_a_time = CHANGING.lock().unwrap_or_else(PoisonError::into_inner);
        let mut tries = 0;
        loop {
            tries += 1;
            let saved = self.save()?;
            let mut script = plan(&saved)?;
            if watched == Watched::Yes {
                self.push_canary(&saved, &mut script);
            }
            if script.is_empty() {
                return Ok(());
            }
            match self.restore(&script, &saved) {
                Err(_) if tries < TRIES => {}
                made => return Ok(made?),
            }
        }
    }

    fn push_canary(&self, saved: &Saved, script: &mut Script) {
        self.programs.watch(self.ipv4, self.flavor, self.table);
        if !saved.has_canary() {
            script
                .share_chain(CANARY)
                .append(CANARY, &words("-j RETURN"));
        }
    }

    /// Reads the table.
    pub(crate) fn save(&self) -> Result<Saved, IptablesError> {
        let output = self.output("-save", &["-t", self.table], &[])?;
        Ok(Saved::parse(&String::from_utf8_lossy(&output.stdout)))
    }

    fn restore(&self, script: &Script, saved: &Saved) -> Result<(), IptablesError> {
        for chain in &script.shared {
            if !saved.has_chain(chain) {
                self.ensure_chain(chain)?;
            }
        }
        let arguments = ["--noflush", "-w", &self.patience()];
        let text = script.text(self.table);
        self.output("-restore", &arguments, text.as_bytes())
            .map(drop)
    }

    /// Makes a chain unless it is there.
    pub(crate) fn ensure_chain(&self, chain: &str) -> Result<(), IptablesError> {
        if self.answer(&["-n", "-L", chain])? {
            return Ok(());
        }
        // Somebody else may have been first.
        let made = self.run(&["-N", chain]);
        if made.is_err() && self.answer(&["-n", "-L", chain])? {
            return Ok(());
        }
        made
    }

    pub(crate) fn has(&self, chain: &str, rule: &[String]) -> Result<bool, IptablesError> {
        self.answer(&with_rule(&["-C", chain], rule))
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Result<(), IptablesError> {
        self.output("", &self.on_table(arguments), &[]).map(drop)
    }

    /// Runs a question.
    fn answer(&self, arguments: &[&str]) -> Result<bool, IptablesError> {
        match self.run(arguments) {
            Err(IptablesError::Failed { status, .. }) if status.code() == Some(NOT_THERE) => {
                Ok(false)
            }
            done => done.map(|()| true),
        }
    }

    fn on_table<'b>(&self, arguments: &[&'b str]) -> Vec<&'b str> {
        let mut all = vec!["-w", "60", "-t", self.table];
        all.extend(arguments);
        all
    }

    /// Seconds that it may wait for others that change the tables.
    fn patience(&self) -> String {
        let left = self.deadline.saturating_duration_since(Instant::now());
        left.as_secs().clamp(1, 60).to_string()
    }

    fn output(
        &self,
        part: &str,
        arguments: &[&str],
        stdin: &[u8],
    ) -> Result<Finished, IptablesError> {
        let program = self.programs.program(self.ipv4, self.flavor, part)?;
        run(Command::new(program).args(arguments), stdin, self.deadline)
    }
}

/// Runs a program to its good end.
pub(super) fn run(
    command: &mut Command,
    stdin: &[u8],
    deadline: Instant,
) -> Result<Finished, IptablesError> {
    let program = command.get_program().to_string_lossy().into_owned();
    let finished = match run_program(command, stdin, OUTPUT_LIMIT, deadline) {
        Err(source) => return Err(IptablesError::Run { program, source }),
        Ok(None) => return Err(IptablesError::TimedOut { program }),
        Ok(Some(finished)) => finished,
    };
    if finished.stdout.len() >= OUTPUT_LIMIT {
        return Err(IptablesError::TooLong { program });
    }
    if !finished.status.success() {
        let arguments: Vec<_> = command
            .get_args()
            .map(|word| word.to_string_lossy())
            .collect();
        return Err(IptablesError::Failed {
            arguments: arguments.join(" "),
            program,
            status: finished.status,
            said: String::from_utf8_lossy(&finished.stderr).trim().to_owned(),
        });
    }
    Ok(finished)
}

fn with_rule<'a>(command: &[&'a str], rule: &'a [String]) -> Vec<&'a str> {
    command
        .iter()
        .copied()
        .chain(rule.iter().map(String::as_str))
        .collect()
}
