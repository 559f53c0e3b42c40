//! Enums whose values have names for people: a value, its name and its place in the list of all are
//! written once.

macro_rules! named {
    (
        $(#[$of_all:meta])*
        pub enum $enum:ident {
            $($(#[$of_one:meta])* $value:ident = $name:literal,)+
        }
    ) => {
        $(#[$of_all])*
        pub enum $enum {
            $($(#[$of_one])* $value,)+
        }

        impl $enum {
            /// All of them, in their order here.
            pub const ALL: [Self; [$($name),+].len()] = [$(Self::$value),+];

            /// What it is called where a person reads or chooses it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$value => $name,)+
                }
            }

            /// The one that is called `name`.
            #[must_use]
            pub fn from_name(name: &str) -> Option<Self> {
                Self::ALL.into_iter().find(|value| value.name() == name)
            }
        }
    };
}
pub(crate) use named;
