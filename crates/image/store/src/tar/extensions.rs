//! What extension headers say about the entry that follows them.

use super::pax::Pax;

/// The extension headers since the last entry.
#[derive(Default)]
pub(super) struct Extensions {
    pax: Option<Pax>,
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
}

impl Extensions {
    /// Whether an entry must follow.
    pub(super) fn are_there(&self) -> bool {
        self.pax.is_some() || self.long_name.is_some() || self.long_link.is_some()
    }

    /// Adds a header of that type; the error says what is wrong.
    pub(super) fn take(&mut self, flag: u8, content: Vec<u8>) -> Result<(), &'static str> {
        let earlier = match flag {
            b'x' => self.pax.replace(Pax::parse(&content)?).is_some(),
            b'L' => self.long_name.replace(until_nul(content)?).is_some(),
            b'K' => self.long_link.replace(until_nul(content)?).is_some(),
            // Upstream ignores what is said about all entries, GNU tar does not.
            _ if Pax::parse(&content)?.says_nothing() => false,
            _ => return Err("a global PAX header that would change the entries"),
        };
        // Some readers take both, some the last one.
        match earlier {
            true => Err("two extension headers of one kind"),
            false => Ok(()),
        }
    }

    /// The entry's name and link target where extensions tell them, and all else that PAX says.
    pub(super) fn names(self) -> Result<Names, &'static str> {
        let mut pax = self.pax.unwrap_or_default();
        let name = agreed(self.long_name, pax.path.take())?;
        let link = agreed(self.long_link, pax.link.take())?;
        Ok((name, link, pax))
    }
}

type Names = (Option<Vec<u8>>, Option<Vec<u8>>, Pax);

fn agreed(gnu: Option<Vec<u8>>, pax: Option<Vec<u8>>) -> Result<Option<Vec<u8>>, &'static str> {
    match (gnu, pax) {
        (Some(gnu), Some(pax)) if gnu != pax => Err("GNU and PAX headers disagree about a name"),
        (gnu, pax) => Ok(gnu.or(pax)),
    }
}

/// A name as C reads it, which is not empty.
fn until_nul(mut bytes: Vec<u8>) -> Result<Vec<u8>, &'static str> {
    let end = bytes.iter().position(|&byte| byte == 0);
    bytes.truncate(end.unwrap_or(bytes.len()));
    match bytes.is_empty() {
        true => Err("a long name is empty"),
        false => Ok(bytes),
    }
}
