//! The little of roff that manual pages need.

/// A manual page under construction.
#[derive(Debug)]
pub(crate) struct Page(String);

impl Page {
    pub(crate) fn new(name: &str, section: &str, title: &str) -> Self {
        Self(format!(
            ".TH \"{}\" \"{section}\" \"\" \"\" \"{title}\"\n",
            escape(&name.to_uppercase())
        ))
    }

    pub(crate) fn section(&mut self, title: &str) {
        self.0.push_str(&format!(".SH {}\n", escape(title)));
    }

    pub(crate) fn subsection(&mut self, title: &str) {
        self.0.push_str(&format!(".SS {}\n", escape(title)));
    }

    pub(crate) fn paragraph(&mut self, text: &str) {
        self.0.push_str(&format!(".PP\n{}\n", line(text)));
    }

    /// A term in bold and its explanation, indented.
    pub(crate) fn item(&mut self, term: &str, text: &str) {
        self.0
            .push_str(&format!(".TP\n\\fB{}\\fR\n{}\n", escape(term), line(text)));
    }

    pub(crate) fn finish(self) -> String {
        self.0
    }
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\e").replace('-', "\\-")
}

/// Text that is no request although it may begin like one.
fn line(text: &str) -> String {
    let escaped = escape(text);
    if escaped.starts_with(['.', '\'']) {
        format!("\\&{escaped}")
    } else {
        escaped
    }
}
