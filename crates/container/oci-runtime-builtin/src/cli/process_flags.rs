//! The process of `exec`, from a file or from flags over the container's own process.

use std::path::Path;

use clap::ArgMatches;
use crioxide_files::read_limited;
use oci_spec::runtime::{Capability, LinuxCapabilities, Process};

type AnyError = Box<dyn std::error::Error>;

/// Largest process file that is read.
const PROCESS_LIMIT: u64 = 4 << 20;

/// The process to run. `base` is the container's configured process.
pub(super) fn process(
    matches: &ArgMatches,
    base: impl FnOnce() -> Result<Process, AnyError>,
) -> Result<Process, AnyError> {
    if let Some(path) = matches.get_one::<String>("process") {
        let bytes = read_limited(Path::new(path), PROCESS_LIMIT)?;
        return Ok(serde_json::from_slice(&bytes)?);
    }
    let mut process = base()?;
    let words: Vec<String> = matches
        .get_many::<String>("command")
        .into_iter()
        .flatten()
        .cloned()
        .collect();
    process
        .set_args(Some(words))
        .set_terminal(Some(matches.get_flag("tty")));
    if let Some(cwd) = matches.get_one::<String>("cwd") {
        process.set_cwd(cwd.into());
    }
    let mut environment = process.env().clone().unwrap_or_default();
    environment.extend(
        matches
            .get_many::<String>("env")
            .into_iter()
            .flatten()
            .cloned(),
    );
    process.set_env(Some(environment));
    if matches.get_flag("no-new-privs") {
        process.set_no_new_privileges(Some(true));
    }
    if let Some(profile) = matches.get_one::<String>("apparmor") {
        process.set_apparmor_profile(Some(profile.clone()));
    }
    if let Some(label) = matches.get_one::<String>("process-label") {
        process.set_selinux_label(Some(label.clone()));
    }
    let mut user = process.user().clone();
    if let Some(text) = matches.get_one::<String>("user") {
        let (uid, gid) = parse_user(text)?;
        user.set_uid(uid);
        if let Some(gid) = gid {
            user.set_gid(gid);
        }
    }
    if let Some(groups) = matches.get_many::<u32>("additional-gids") {
        let mut all = user.additional_gids().clone().unwrap_or_default();
        all.extend(groups);
        user.set_additional_gids(Some(all));
    }
    process.set_user(user);
    if let Some(names) = matches.get_many::<String>("cap") {
        let names: Vec<String> = names.cloned().collect();
        let capabilities = with_capabilities(process.capabilities().clone(), &names)?;
        process.set_capabilities(Some(capabilities));
    }
    Ok(process)
}

/// `uid` or `uid:gid`, in plain decimal: what else a number parser would take (signs, blanks) names nobody.
fn parse_user(text: &str) -> Result<(u32, Option<u32>), AnyError> {
    let number = |part: &str| -> Result<u32, AnyError> {
        let plain = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        match part.parse::<u32>() {
            Ok(id) if plain && id != u32::MAX => Ok(id),
            _ => Err(format!("invalid user `{text}`: expected uid[:gid] in decimal").into()),
        }
    };
    match text.split_once(':') {
        None => Ok((number(text)?, None)),
        Some((uid, gid)) => Ok((number(uid)?, Some(number(gid)?))),
    }
}

/// Adds to the bounding, effective and permitted sets; never to the inheritable one.
fn with_capabilities(
    base: Option<LinuxCapabilities>,
    names: &[String],
) -> Result<LinuxCapabilities, AnyError> {
    let empty = serde_json::json!({});
    let mut sets = match base {
        Some(sets) => sets,
        None => serde_json::from_value(empty)?,
    };
    let added: Vec<Capability> = names
        .iter()
        .map(|name| Ok(serde_json::from_value(serde_json::json!(name))?))
        .collect::<Result<_, AnyError>>()?;
    let with = |set: &Option<std::collections::HashSet<Capability>>| {
        let mut set = set.clone().unwrap_or_default();
        set.extend(added.iter().copied());
        Some(set)
    };
    let (bounding, effective, permitted) = (
        with(sets.bounding()),
        with(sets.effective()),
        with(sets.permitted()),
    );
    sets.set_bounding(bounding)
        .set_effective(effective)
        .set_permitted(permitted);
    Ok(sets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_plain_numbers() {
        assert_eq!(parse_user("1000").unwrap(), (1000, None));
        assert_eq!(parse_user("1000:5").unwrap(), (1000, Some(5)));
        for bad in [
            "",
            "0:",
            ":0",
            "-1",
            "+0",
            "1e3",
            " 0",
            "4294967295",
            "4294967296",
            "root",
            "0:0:0",
        ] {
            assert!(parse_user(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn added_capabilities_are_not_inheritable() {
        let sets = with_capabilities(None, &["CAP_NET_RAW".to_owned()]).unwrap();
        assert!(sets.inheritable().is_none() && sets.ambient().is_none());
        assert!(
            sets.bounding()
                .as_ref()
                .unwrap()
                .contains(&Capability::NetRaw)
        );
    }
}
