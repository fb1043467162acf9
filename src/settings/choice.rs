//! Settings that take one of a few words.

/// A setting that takes one of a few words.
pub trait Choice: Copy + PartialEq + 'static {
    /// Every word with its meaning; the default first.
    const ALL: &'static [(&'static str, Self)];
}

/// Declares an enum whose variants are words in the settings file; the first is the default.
macro_rules! choice {
    (
        $(#[$meta:meta])*
        $name:ident { $($(#[$doc:meta])* $variant:ident = $word:literal,)+ }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$doc])* $variant,)+ }

        impl $name {
            /// The word for it in the settings file.
            pub const fn name(self) -> &'static str {
                match self { $($name::$variant => $word,)+ }
            }
        }

        impl Default for $name {
            fn default() -> Self {
                <Self as $crate::settings::choice::Choice>::ALL[0].1
            }
        }

        impl $crate::settings::choice::Choice for $name {
            const ALL: &'static [(&'static str, Self)] = &[$(($word, $name::$variant),)+];
        }
    };
}

pub(super) use choice;
