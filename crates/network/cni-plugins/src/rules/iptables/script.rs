//! Input of `iptables-restore`: changes of one table that are made as a whole.

use std::fmt::Write;

use super::{Rule, Saved};

/// Changes of a table.
#[derive(Debug, Default)]
pub(crate) struct Script {
    /// Chains that many share, to be made beforehand: naming them here would empty them.
    pub(super) shared: Vec<String>,
    lines: String,
}

impl Script {
    /// Makes a chain that others may be making as well.
    pub(crate) fn share_chain(&mut self, name: &str) -> &mut Self {
        self.shared.push(name.to_owned());
        self
    }

    /// Makes an empty chain, or empties it.
    pub(crate) fn empty_chain(&mut self, name: &str) -> &mut Self {
        self.line(&format!(":{name} - [0:0]"))
    }

    pub(crate) fn append(&mut self, chain: &str, rule: &[String]) -> &mut Self {
        self.line(&format!("-A {chain} {}", text_of(rule)))
    }

    pub(crate) fn insert_first(&mut self, chain: &str, rule: &[String]) -> &mut Self {
        self.line(&format!("-I {chain} 1 {}", text_of(rule)))
    }

    /// Takes away all jumps to a chain, and the chain.
    pub(crate) fn remove_chain(&mut self, saved: &Saved, name: &str) -> &mut Self {
        self.remove_jumps(saved, name);
        if saved.has_chain(name) {
            self.empty_chain(name).line(&format!("-X {name}"));
        }
        self
    }

    /// Takes away all jumps to a chain.
    pub(crate) fn remove_jumps(&mut self, saved: &Saved, name: &str) -> &mut Self {
        saved.jumps(name).for_each(|rule| {
            self.delete(rule);
        });
        self
    }

    /// Takes away one rule.
    pub(crate) fn delete(&mut self, rule: &Rule) -> &mut Self {
        self.line(&format!("-D {} {}", rule.chain, rule.text))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.shared.is_empty() && self.lines.is_empty()
    }

    pub(super) fn text(&self, table: &str) -> String {
        format!("*{table}\n{}COMMIT\n", self.lines)
    }

    fn line(&mut self, line: &str) -> &mut Self {
        writeln!(self.lines, "{line}").expect("a string takes everything");
        self
    }
}

fn text_of(rule: &[String]) -> String {
    let words: Vec<_> = rule.iter().map(|word| quoted(word)).collect();
    words.join(" ")
}

/// A word as the programs read it back. They know no way to write a line break.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:,[]!%+=@".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    let mut text = String::from('"');
    for character in word.chars() {
        match character {
            '"' | '\\' => text.extend(['\\', character]),
            control if control.is_control() => text.push('?'),
            other => text.push(other),
        }
    }
    text.push('"');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_words_stay_words() {
        let rule = ["--comment", "a\" -j ACCEPT\n-A INPUT \\"].map(str::to_owned);
        let mut script = Script::default();
        script.append("X", &rule);
        assert_eq!(
            script.text("nat"),
            "*nat\n-A X --comment \"a\\\" -j ACCEPT?-A INPUT \\\\\"\nCOMMIT\n"
        );
        let saved = Saved::parse(&script.text("nat"));
        let read = saved.rules("X").next().unwrap();
        assert_eq!(read.option("--comment"), Some("a\" -j ACCEPT?-A INPUT \\"));
        assert_eq!(read.option("-j"), None);
    }

    #[test]
    fn a_chain_goes_with_the_jumps_to_it() {
        let saved = Saved::parse(":A - [0:0]\n:B - [0:0]\n-A B -s 10.0.0.1/32 -j A\n-A B -j C\n");
        let mut script = Script::default();
        script.remove_chain(&saved, "A").remove_chain(&saved, "D");
        assert_eq!(
            script.text("nat"),
            "*nat\n-D B -s 10.0.0.1/32 -j A\n:A - [0:0]\n-X A\nCOMMIT\n"
        );
    }
}
