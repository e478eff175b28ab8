//! From the request's and the image's user to numbers.

use std::io::BufRead;

use crioxide_cri_api::v1::{self, SupplementalGroupsPolicy};
use thiserror::Error;

use super::ResolvedUser;
use super::accounts::{self, Account, AccountFileError, parse_id};

/// What is known about the wanted user.
#[derive(Debug, Clone, Copy, Default)]
pub struct UserRequest<'a> {
    /// The request's security context.
    pub security: Option<&'a v1::LinuxContainerSecurityContext>,
    /// The image's `user[:group]`; empty for none.
    pub image_user: &'a str,
}

/// A user that cannot be found.
#[derive(Debug, Error)]
pub enum ResolveUserError {
    /// An account file is unusable.
    #[error(transparent)]
    File(#[from] AccountFileError),
    /// A group without a user.
    #[error("user group is specified without user or username")]
    GroupWithoutUser,
    /// A number outside 0 to 2147483647.
    #[error("{what} {value} is not in the range 0-2147483647")]
    Range {
        /// `uid` or `gid`.
        what: &'static str,
        /// The number.
        value: String,
    },
    /// Not in the image's `/etc/passwd`.
    #[error("unable to find user {name:?}: no matching entries in passwd file")]
    UnknownUser {
        /// The name.
        name: String,
    },
    /// Not in the image's `/etc/group`.
    #[error("unable to find group {name:?}: no matching entries in group file")]
    UnknownGroup {
        /// The name.
        name: String,
    },
}

/// Finds the user in the image's account files; pass empty readers for files that do not exist.
///
/// The request's number or name beats the image's user. With the `Strict` policy, memberships in the image's
/// `/etc/group` do not count.
///
/// # Errors
/// Fails for unknown names, numbers out of range, and unusable files.
pub fn resolve(
    request: UserRequest<'_>,
    passwd: &mut dyn BufRead,
    group: &mut dyn BufRead,
) -> Result<ResolvedUser, ResolveUserError> {
    let wanted = Wanted::of(request)?;
    let account = find_account(&wanted.user, passwd)?;
    let uid = match (&account, parse_id(&wanted.user)) {
        (Some(account), _) => account.uid,
        (None, Some(uid)) => uid,
        (None, None) if wanted.user.is_empty() => 0,
        (None, None) => return Err(not_found(&wanted.user, "uid")),
    };
    let default_gid = account.as_ref().map_or(0, |account| account.gid);
    let name = account.as_ref().map(|account| account.name.clone());
    let (gid, memberships) = find_groups(&wanted, default_gid, name.as_deref(), group)?;
    let mut additional_gids = vec![gid];
    let requested = request
        .security
        .map_or(&[][..], |security| &security.supplemental_groups[..]);
    for value in requested {
        let id = checked_id("gid", *value)?;
        push_new(&mut additional_gids, id);
    }
    if wanted.policy == SupplementalGroupsPolicy::Merge {
        memberships
            .into_iter()
            .for_each(|id| push_new(&mut additional_gids, id));
    }
    let home = account
        .map(|account| account.home)
        .filter(|home| !home.is_empty());
    let home = home.unwrap_or_else(|| "/".to_owned());
    Ok(ResolvedUser {
        uid,
        gid,
        additional_gids,
        home: Some(home),
        name,
    })
}

/// The user to look for, as text, because names and numbers are looked up alike.
struct Wanted {
    user: String,
    group: Option<String>,
    /// Whether the account's memberships count; not if the image names a group itself.
    memberships: bool,
    policy: SupplementalGroupsPolicy,
}

impl Wanted {
    fn of(request: UserRequest<'_>) -> Result<Self, ResolveUserError> {
        let security = request.security;
        let uid = security
            .and_then(|security| security.run_as_user.as_ref())
            .map(|uid| checked_id("uid", uid.value))
            .transpose()?;
        let username = security.map_or("", |security| security.run_as_username.as_str());
        let gid = security
            .and_then(|security| security.run_as_group.as_ref())
            .map(|gid| checked_id("gid", gid.value))
            .transpose()?;
        if gid.is_some() && uid.is_none() && username.is_empty() {
            return Err(ResolveUserError::GroupWithoutUser);
        }
        let text = match (username, uid) {
            ("", Some(uid)) => uid.to_string(),
            ("", None) => request.image_user.to_owned(),
            (username, _) => username.to_owned(),
        };
        let (user, image_group) = match text.split_once(':') {
            Some((user, group)) => (
                user.to_owned(),
                Some(group.to_owned()).filter(|group| !group.is_empty()),
            ),
            None => (text, None),
        };
        let memberships = image_group.is_none();
        let policy = security.map_or(
            SupplementalGroupsPolicy::Merge,
            v1::LinuxContainerSecurityContext::supplemental_groups_policy,
        );
        Ok(Self {
            user,
            group: gid.map(|gid| gid.to_string()).or(image_group),
            memberships,
            policy,
        })
    }
}

fn find_account(user: &str, passwd: &mut dyn BufRead) -> Result<Option<Account>, AccountFileError> {
    let wanted = if user.is_empty() { "0" } else { user };
    let number = parse_id(wanted);
    let mut found = None;
    accounts::for_each_account(passwd, |account| {
        if account.name == wanted || Some(account.uid) == number {
            found = Some(account);
        }
        found.is_none()
    })?;
    Ok(found)
}

/// The primary group and the groups the account is a member of.
fn find_groups(
    wanted: &Wanted,
    default_gid: u32,
    name: Option<&str>,
    group: &mut dyn BufRead,
) -> Result<(u32, Vec<u32>), ResolveUserError> {
    let number = wanted.group.as_deref().and_then(parse_id);
    let mut gid = None;
    let mut memberships = Vec::new();
    accounts::for_each_group(group, |entry| {
        if gid.is_none()
            && wanted
                .group
                .as_ref()
                .is_some_and(|wanted| *wanted == entry.name || number == Some(entry.gid))
        {
            gid = Some(entry.gid);
        }
        if wanted.memberships
            && name.is_some_and(|name| entry.members.iter().any(|member| member == name))
        {
            memberships.push(entry.gid);
        }
        true
    })?;
    let gid = match (gid.or(number), &wanted.group) {
        (Some(gid), _) => gid,
        (None, None) => default_gid,
        (None, Some(group)) => return Err(not_found(group, "gid")),
    };
    Ok((gid, memberships))
}

/// Digits that are out of range are told apart from names nobody has.
fn not_found(text: &str, what: &'static str) -> ResolveUserError {
    if text
        .trim_start_matches(['-', '+'])
        .bytes()
        .all(|byte| byte.is_ascii_digit())
    {
        return ResolveUserError::Range {
            what,
            value: text.to_owned(),
        };
    }
    match what {
        "uid" => ResolveUserError::UnknownUser {
            name: text.to_owned(),
        },
        _ => ResolveUserError::UnknownGroup {
            name: text.to_owned(),
        },
    }
}

fn checked_id(what: &'static str, value: i64) -> Result<u32, ResolveUserError> {
    i32::try_from(value)
        .ok()
        .and_then(|value| u32::try_from(value).ok())
        .ok_or(ResolveUserError::Range {
            what,
            value: value.to_string(),
        })
}

fn push_new(gids: &mut Vec<u32>, gid: u32) {
    if !gids.contains(&gid) {
        gids.push(gid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34:web:/srv/web:/bin/sh\n1000:x:5:6:odd:/odd:/bin/sh\n";
    const GROUP: &str = "root:x:0:\nweb:x:34:\nlogs:x:50:web,other\ndisks:x:51:web\n";

    fn found(
        security: Option<&v1::LinuxContainerSecurityContext>,
        image_user: &str,
    ) -> Result<ResolvedUser, ResolveUserError> {
        resolve(
            UserRequest {
                security,
                image_user,
            },
            &mut PASSWD.as_bytes(),
            &mut GROUP.as_bytes(),
        )
    }

    fn numbers(image_user: &str) -> (u32, u32, Vec<u32>) {
        let user = found(None, image_user).unwrap();
        (user.uid, user.gid, user.additional_gids)
    }

    fn id(value: i64) -> Option<v1::Int64Value> {
        Some(v1::Int64Value { value })
    }

    #[test]
    fn users_of_images() {
        assert_eq!(numbers(""), (0, 0, vec![0]));
        assert_eq!(numbers("web"), (33, 34, vec![34, 50, 51]));
        assert_eq!(numbers("33"), (33, 34, vec![34, 50, 51]));
        assert_eq!(numbers("web:logs"), (33, 50, vec![50]));
        assert_eq!(numbers("web:77"), (33, 77, vec![77]));
        assert_eq!(numbers("4000"), (4000, 0, vec![0]));
        assert_eq!(numbers("1000"), (5, 6, vec![6]));
        assert_eq!(
            found(None, "web").unwrap().home.as_deref(),
            Some("/srv/web")
        );
    }

    #[test]
    fn hostile_users_are_errors() {
        for user in [
            "4294967296",
            "2147483648",
            "-1",
            "+0",
            "99999999999999999999",
            "0:4294967296",
            "0:-1",
        ] {
            assert!(
                matches!(found(None, user), Err(ResolveUserError::Range { .. })),
                "{user}"
            );
        }
        for user in ["1e3", "nobody", "0:nogroup", "root\n", "ro ot"] {
            assert!(
                matches!(
                    found(None, user),
                    Err(ResolveUserError::UnknownUser { .. }
                        | ResolveUserError::UnknownGroup { .. })
                ),
                "{user}"
            );
        }
    }

    #[test]
    fn request_beats_image() {
        let security = v1::LinuxContainerSecurityContext {
            run_as_user: id(33),
            run_as_group: id(7),
            supplemental_groups: vec![60, 7],
            ..Default::default()
        };
        let user = found(Some(&security), "root:root").unwrap();
        assert_eq!(
            (user.uid, user.gid, user.additional_gids),
            (33, 7, vec![7, 60, 50, 51])
        );
        let strict = v1::LinuxContainerSecurityContext {
            supplemental_groups_policy: SupplementalGroupsPolicy::Strict.into(),
            ..security.clone()
        };
        assert_eq!(found(Some(&strict), "").unwrap().additional_gids, [7, 60]);
        let named = v1::LinuxContainerSecurityContext {
            run_as_username: "web".into(),
            ..Default::default()
        };
        assert_eq!(found(Some(&named), "root").unwrap().uid, 33);
    }

    #[test]
    fn requests_are_checked() {
        let security = |user, group, groups| v1::LinuxContainerSecurityContext {
            run_as_user: user,
            run_as_group: group,
            supplemental_groups: groups,
            ..Default::default()
        };
        assert!(matches!(
            found(Some(&security(None, id(1), vec![])), ""),
            Err(ResolveUserError::GroupWithoutUser)
        ));
        for bad in [
            security(id(-1), None, vec![]),
            security(id(1 << 32), None, vec![]),
            security(id(1), id(-1), vec![]),
            security(None, None, vec![1 << 31]),
        ] {
            assert!(matches!(
                found(Some(&bad), ""),
                Err(ResolveUserError::Range { .. })
            ));
        }
    }
}
