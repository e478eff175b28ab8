//! Namespaces that belong to a user namespace of the pod's.
//!
//! The kernel lets no thread of a process with several enter a new user namespace. So these namespaces are made by a
//! program of one thread, ours in a role of its own: it enters, waits until its id maps are written, makes the others,
//! and stays until they are pinned.

use std::{
    ffi::OsString,
    io::{Read as _, Write as _},
    path::Path,
    process::{Child, Command, Stdio},
};

use rustix::thread::UnshareFlags;

use crate::{
    NamespaceError,
    create::{self, NamespaceRequest, NewPins, PinnedNamespaces},
    pin::{self, Kind},
};

/// Longest answer of the helper, bytes.
const ANSWER_MAX: u64 = 64 << 10;
/// What the helper says when it is in its user namespace.
const ENTERED: u8 = b'u';
/// What it says when everything is made; anything else is why not.
const MADE: u8 = b'+';

/// A range of ids of a user namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdRange {
    /// First id inside.
    pub inside: u32,
    /// First id outside.
    pub outside: u32,
    /// How many.
    pub count: u32,
}

/// The id maps of a user namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IdMaps {
    /// Users.
    pub uids: Vec<IdRange>,
    /// Groups.
    pub gids: Vec<IdRange>,
}

/// Makes a user namespace with these maps and, belonging to it, the namespaces of `request`, and pins them all.
///
/// `helper` is a program that calls [`run_helper`] with the arguments that are added to it.
///
/// # Errors
/// When one cannot be made, pinned or set up; nothing of this call is left then.
pub fn create_pinned_with_users(
    dir: &Path,
    name: &str,
    request: &NamespaceRequest,
    maps: &IdMaps,
    mut helper: Command,
) -> Result<PinnedNamespaces, NamespaceError> {
    helper
        .args(arguments(request))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let failed = |action| move |source| NamespaceError::Make { action, source };
    let child = helper
        .spawn()
        .map_err(failed("start the helper for a user namespace"))?;
    let mut helper = Helper(child);
    let first = helper.hear(1)?;
    if first != [ENTERED] {
        return Err(refusal(first, &mut helper));
    }
    for (file, ranges) in [("uid_map", &maps.uids), ("gid_map", &maps.gids)] {
        let path = format!("/proc/{}/{file}", helper.0.id());
        // The kernel takes a map in one write only.
        std::fs::write(&path, lines(ranges)).map_err(|source| NamespaceError::IdMap {
            map: lines(ranges).trim_end().replace('\n', ", "),
            source,
        })?;
    }
    helper
        .tell(b"\n")
        .map_err(failed("go on with the helper for a user namespace"))?;
    let answer = helper.hear(1)?;
    if answer != [MADE] {
        return Err(refusal(answer, &mut helper));
    }
    let mut pins = NewPins::default();
    for kind in create::kinds(request).into_iter().chain([Kind::User]) {
        let path = pin::prepare(dir, kind, name)?;
        let source = format!("/proc/{}/ns/{}", helper.0.id(), kind.file());
        pin::mount_on(Path::new(&source), &path)?;
        pins.0.push((kind, path));
    }
    Ok(pins.keep())
}

/// The helper process, which ends when its input does; on drop it is waited for.
struct Helper(Child);

impl Helper {
    fn hear(&mut self, most: u64) -> Result<Vec<u8>, NamespaceError> {
        let mut answer = Vec::new();
        if let Some(output) = &mut self.0.stdout {
            let heard = output.by_ref().take(most).read_to_end(&mut answer);
            heard.map_err(|source| NamespaceError::Make {
                action: "hear the helper for a user namespace",
                source,
            })?;
        }
        Ok(answer)
    }

    fn tell(&mut self, word: &[u8]) -> std::io::Result<()> {
        match &mut self.0.stdin {
            Some(input) => input.write_all(word),
            None => Ok(()),
        }
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        // Without input it has nothing left to do; a kill makes that certain.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What the helper said instead of what was expected.
fn refusal(mut heard: Vec<u8>, helper: &mut Helper) -> NamespaceError {
    heard.extend(helper.hear(ANSWER_MAX).unwrap_or_default());
    let reason = match heard.is_empty() {
        true => "it ended without a word".to_owned(),
        false => String::from_utf8_lossy(&heard).trim().to_owned(),
    };
    NamespaceError::Helper { reason }
}

fn lines(ranges: &[IdRange]) -> String {
    ranges
        .iter()
        .map(|range| format!("{} {} {}\n", range.inside, range.outside, range.count))
        .collect()
}

/// Each part is an argument of its own, so that no value can pass for another one.
fn arguments(request: &NamespaceRequest) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = create::kinds(request)
        .iter()
        .map(|kind| kind.file().into())
        .collect();
    if let Some(hostname) = &request.hostname {
        arguments.extend(["hostname".into(), hostname.into()]);
    }
    for (key, value) in &request.sysctls {
        arguments.extend(["sysctl".into(), key.into(), value.into()]);
    }
    arguments
}

fn parse(arguments: impl IntoIterator<Item = OsString>) -> Option<NamespaceRequest> {
    let mut request = NamespaceRequest::default();
    let mut words = arguments.into_iter().map(|word| word.into_string().ok());
    while let Some(word) = words.next() {
        match word?.as_str() {
            "net" => request.net = true,
            "ipc" => request.ipc = true,
            "uts" => request.uts = true,
            "hostname" => request.hostname = Some(words.next()??),
            "sysctl" => request.sysctls.push((words.next()??, words.next()??)),
            _ => return None,
        }
    }
    Some(request)
}

/// The helper's side: `arguments` are those that [`create_pinned_with_users`] added. The process has one thread.
pub fn run_helper(arguments: impl IntoIterator<Item = OsString>) -> i32 {
    let mut output = std::io::stdout().lock();
    let say = |output: &mut std::io::StdoutLock<'_>, word: &[u8]| {
        output.write_all(word).and_then(|()| output.flush())
    };
    let made = match parse(arguments) {
        Some(request) => enter(&request, || say(&mut output, &[ENTERED])),
        None => Err("its arguments make no sense".to_owned()),
    };
    let (word, code) = match &made {
        Ok(()) => (&[MADE][..], 0),
        Err(reason) => (reason.as_bytes(), 1),
    };
    if say(&mut output, word).is_ok() && made.is_ok() {
        // Until everything is pinned.
        let _ = std::io::stdin().read(&mut [0]);
    }
    code
}

fn enter(
    request: &NamespaceRequest,
    entered: impl FnOnce() -> std::io::Result<()>,
) -> Result<(), String> {
    use rustix::process::{Gid, Uid};
    let text = |action: &'static str| move |error: std::io::Error| format!("{action}: {error}");
    crioxide_sys::namespaces::unshare(UnshareFlags::NEWUSER)
        .map_err(text("make a user namespace"))?;
    entered().map_err(text("say so"))?;
    let mut word = [0];
    match std::io::stdin().read(&mut word) {
        Ok(1) => {}
        _ => return Err("the other side left".to_owned()),
    }
    rustix::thread::set_thread_groups(&[])
        .and_then(|()| {
            rustix::thread::set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT)?;
            rustix::thread::set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT)
        })
        .map_err(|error| text("become root of the user namespace")(error.into()))?;
    create::make_here(request).map_err(|error| {
        let reason = std::error::Error::source(&error).map(ToString::to_string);
        format!("{error}: {}", reason.unwrap_or_default())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_come_back_as_they_were() {
        let request = NamespaceRequest {
            net: true,
            uts: true,
            hostname: Some("sysctl".into()),
            sysctls: vec![
                ("a.b".into(), "1+c.d=2".into()),
                ("net".into(), String::new()),
            ],
            ..NamespaceRequest::default()
        };
        let back = parse(arguments(&request)).unwrap();
        assert_eq!((back.net, back.ipc, back.uts), (true, false, true));
        assert_eq!(back.hostname, request.hostname);
        assert_eq!(back.sysctls, request.sysctls);
        assert!(parse(["sysctl".into(), "a".into()]).is_none());
        assert!(parse(["pid".into()]).is_none());
    }
}
