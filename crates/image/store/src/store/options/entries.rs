//! What the options of all drivers have in common.

use super::DriverOptionError;
use std::borrow::Cow;
use std::path::PathBuf;

/// What is wrong with an entry.
pub(super) type Problem = Cow<'static, str>;

/// Hands the entries of one driver, as key and value, to `take`, which answers whether it knows the key. Returns the roots
/// of read-only stores that are among them.
///
/// Keys are given with one of the driver's names before them, or bare. Those of other drivers are passed over.
pub(super) fn read(
    options: &[String],
    names: &[&str],
    mut take: impl FnMut(&str, &str) -> Result<bool, Problem>,
) -> Result<Vec<PathBuf>, DriverOptionError> {
    let mut stores = Vec::new();
    for option in options {
        let fail = |problem: Problem| DriverOptionError {
            option: option.clone(),
            problem,
        };
        let (key, value) = option
            .split_once('=')
            .ok_or_else(|| fail("expected key=value".into()))?;
        let (key, value) = (key.trim().to_ascii_lowercase(), value.trim());
        let own = names
            .iter()
            .find_map(|name| key.strip_prefix(name)?.strip_prefix('.'));
        match own.unwrap_or(&key) {
            "imagestore" | "additionalimagestore" => {
                let paths = value.split(',').filter(|path| !path.is_empty());
                stores.extend(paths.map(PathBuf::from));
            }
            bare if take(bare, value).map_err(fail)? => {}
            other if own.is_none() && other.contains('.') => {
                tracing::debug!(option, "ignoring an option of another storage driver");
            }
            _ => {
                let driver = names.last().copied().unwrap_or_default();
                return Err(fail(
                    format!("the {driver} driver has no such option").into(),
                ));
            }
        }
    }
    Ok(stores)
}

/// A switch.
pub(super) fn boolean(value: &str) -> Result<bool, Problem> {
    super::boolean(value).ok_or_else(|| "not a boolean".into())
}

/// A number of bytes.
pub(super) fn bytes(value: &str) -> Result<u64, Problem> {
    super::size::parse(value).ok_or_else(|| "not a size, such as 10G".into())
}

/// Comma-separated items.
pub(super) fn items(value: &str) -> Vec<String> {
    let items = value.split(',').map(str::trim);
    items
        .filter(|item| !item.is_empty())
        .map(str::to_owned)
        .collect()
}
