//! Names by which the backend knows runtimes.

use std::path::Path;

/// Comes between a handler and a program of its own for one platform.
const SEPARATOR: &str = "@/";

/// A handler's name, or with `program` (`platform_runtime_paths` names it) the handler with this program instead of
/// its usual one. A program that is no absolute path is left out.
pub fn runtime_name(handler: &str, program: &str) -> String {
    match program.strip_prefix('/') {
        Some(program) => format!("{handler}{SEPARATOR}{program}"),
        None => handler.to_owned(),
    }
}

/// The handler and the program of a name that [`runtime_name`] made.
pub fn handler_and_program(name: &str) -> (&str, Option<&Path>) {
    match name.find(SEPARATOR) {
        Some(at) => (&name[..at], Some(Path::new(&name[at + 1..]))),
        None => (name, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_apart_again() {
        for (program, expected) in [
            ("/opt/arm/runc", Some("/opt/arm/runc")),
            ("/opt/a@/b", Some("/opt/a@/b")),
            ("", None),
            ("runc", None),
        ] {
            let name = runtime_name("runc", program);
            let expected = ("runc", expected.map(Path::new));
            assert_eq!(handler_and_program(&name), expected, "{program}");
        }
    }
}
