//! The macro that declares a table of options: one place per option, from which the typed field, its
//! default, its flag and variable, its documentation and its TOML key all come.

/// Declares a configuration table.
///
/// `pub struct ApiConfig for Config at [api] in "crio.api"` makes the struct `ApiConfig` whose values live in
/// `Config`'s field `api` and in the TOML table `[crio.api]`. Each field gives its documentation, type,
/// default (a [`Literal`](crate::Literal)) and, after `=>`, deviations from the naming rule.
/// Fields in the trailing `derived` block are not options: they are computed while resolving.
macro_rules! option_table {
    (
        $(#[doc = $table_doc:literal])+
        pub struct $name:ident for $root:ty, at $access:tt in $table:literal {
            $(
                $(#[doc = $doc:literal])+
                $field:ident : $ty:ty = $default:expr $(=> $(. $method:ident ( $($argument:expr),* ))+ )? ;
            )*
        }
        $(derived {
            $( $(#[doc = $extra_doc:literal])+ $extra:ident : $extra_ty:ty = $extra_default:expr; )*
        })?
    ) => {
        $(#[doc = $table_doc])+
        #[derive(Clone, Debug, PartialEq)]
        pub struct $name {
            $( $(#[doc = $doc])+ pub $field: $ty, )*
            $($( $(#[doc = $extra_doc])+ pub $extra: $extra_ty, )*)?
        }

        impl $name {
            /// The options of this table in the order of the documentation.
            pub const OPTIONS: &'static [crate::option::OptionSpec<$root>] = &[
                $(
                    crate::option::OptionSpec::new(
                        $table,
                        stringify!($field),
                        <$ty as crate::value::OptionValue>::KIND,
                        { use crate::option::Literal::*; $default },
                        crate::option::Access {
                            get: |owner: &$root| crate::value::OptionValue::to_value(&place!(owner, $access, $field)),
                            set: |owner: &mut $root, value| {
                                place!(owner, $access, $field) = crate::value::OptionValue::from_value(value)?;
                                Ok(())
                            },
                        },
                    )
                    .documented(&[$($doc),+])
                    $($( .$method($($argument),*) )+)?,
                )*
            ];
        }

        impl Default for $name {
            fn default() -> Self {
                Self {
                    $( $field: {
                        use crate::option::Literal::*;
                        crate::value::OptionValue::from_value(&($default).to_value())
                            .expect("the defaults of the option table are valid, which a test checks")
                    }, )*
                    $($( $extra: $extra_default, )*)?
                }
            }
        }
    };
}

/// `place!(owner, [a.b], field)` is `owner.a.b.field`.
macro_rules! place {
    ($owner:expr, [$($step:ident).*], $field:ident) => { $owner $(.$step)* .$field };
}
