//! What values may be: each kind reads a value and says in words what is allowed.

use std::marker::PhantomData;
use std::ops::{Range, RangeInclusive};

use toml::Spanned;
use toml::de::{DeInteger, DeValue};

use super::choice::Choice;

/// A kind of value.
pub(super) trait Kind {
    /// What it reads.
    type Value;

    /// What may stand there, to complete "it must be …".
    fn allowed(&self) -> String;

    /// Reads a value; everything that is wrong with it, otherwise.
    fn read(&self, value: &Spanned<DeValue<'_>>) -> Result<Self::Value, Vec<Wrong>>;

    /// The problem that the value as a whole is not allowed.
    fn refuse(&self, value: &Spanned<DeValue<'_>>) -> Vec<Wrong> {
        self.refuse_because(value, "")
    }

    /// As [`Kind::refuse`], with a word more about what was found.
    fn refuse_because(&self, value: &Spanned<DeValue<'_>>, because: &str) -> Vec<Wrong> {
        vec![Wrong {
            span: value.span(),
            suffix: String::new(),
            found: describe(value.get_ref()) + because,
            allowed: self.allowed(),
        }]
    }
}

/// Something wrong with a value.
#[derive(Debug)]
pub(super) struct Wrong {
    /// Where.
    pub span: Range<usize>,
    /// Below the field's own path: `[2]` for an element.
    pub suffix: String,
    /// What stands there.
    pub found: String,
    /// What may stand there.
    pub allowed: String,
}

/// Names a value in a message.
pub(super) fn describe(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => {
            let mut short: String = text.chars().take(80).collect();
            if short.len() < text.len() {
                short.push('…');
            }
            format!("{short:?}")
        }
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.to_string(),
        DeValue::Boolean(flag) => flag.to_string(),
        DeValue::Datetime(time) => format!("the time {time}"),
        DeValue::Array(_) => "an array".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

/// The number an integer stands for, when it fits 64 bits (all TOML promises).
pub(super) fn integer(value: &DeInteger<'_>) -> Option<i64> {
    i64::from_str_radix(value.as_str(), value.radix()).ok()
}

/// `true` or `false`.
pub(super) struct Flag;

impl Kind for Flag {
    type Value = bool;

    fn allowed(&self) -> String {
        "true or false".to_owned()
    }

    fn read(&self, value: &Spanned<DeValue<'_>>) -> Result<bool, Vec<Wrong>> {
        match value.get_ref() {
            DeValue::Boolean(flag) => Ok(*flag),
            _ => Err(self.refuse(value)),
        }
    }
}

/// A whole number within bounds.
pub(super) struct Whole(pub RangeInclusive<u32>);

impl Kind for Whole {
    type Value = u32;

    fn allowed(&self) -> String {
        format!("a whole number from {} to {}", self.0.start(), self.0.end())
    }

    fn read(&self, value: &Spanned<DeValue<'_>>) -> Result<u32, Vec<Wrong>> {
        let DeValue::Integer(number) = value.get_ref() else {
            return Err(self.refuse(value));
        };
        let number = integer(number).and_then(|number| u32::try_from(number).ok());
        number
            .filter(|number| self.0.contains(number))
            .ok_or_else(|| self.refuse(value))
    }
}

/// A power of two within bounds.
pub(super) struct PowerOfTwo(pub RangeInclusive<u32>);

impl Kind for PowerOfTwo {
    type Value = u32;

    fn allowed(&self) -> String {
        format!("a power of two from {} to {}", self.0.start(), self.0.end())
    }

    fn read(&self, value: &Spanned<DeValue<'_>>) -> Result<u32, Vec<Wrong>> {
        let number = Whole(self.0.clone()).read(value);
        let number = number.ok().filter(|number| number.is_power_of_two());
        number.ok_or_else(|| self.refuse(value))
    }
}

/// One of a few numbers.
pub(super) struct OneNumberOf(pub &'static [u32]);

impl Kind for OneNumberOf {
    type Value = u32;

    fn allowed(&self) -> String {
        or(self.0.iter().map(u32::to_string))
    }

    fn read(&self, value: &Spanned<DeValue<'_>>) -> Result<u32, Vec<Wrong>> {
        let number = Whole(0..=u32::MAX).read(value);
        let number = number.ok().filter(|number| self.0.contains(number));
        number.ok_or_else(|| self.refuse(value))
    }
}

/// One of the words of a [`Choice`].
pub(super) struct OneWordOf<T>(pub PhantomData<T>);

/// One of the words of `T`.
pub(super) const fn one_word_of<T: Choice>() -> OneWordOf<T> {
    OneWordOf(PhantomData)
}

impl<T: Choice> Kind for OneWordOf<T> {
    type Value = T;

    fn allowed(&self) -> String {
        or(T::ALL.iter().map(|(word, _)| format!("{word:?}")))
    }

    fn read(&self, value: &Spanned<DeValue<'_>>) -> Result<T, Vec<Wrong>> {
        let found = match value.get_ref() {
            DeValue::String(text) => T::ALL.iter().find(|(word, _)| word == text),
            _ => None,
        };
        found
            .map(|&(_, choice)| choice)
            .ok_or_else(|| self.refuse(value))
    }
}

/// A word that stands for `None`, or a value of another kind.
pub(super) struct WordOr<K> {
    /// The word.
    pub word: &'static str,
    /// The other kind.
    pub kind: K,
}

impl<K: Kind> Kind for WordOr<K> {
    type Value = Option<K::Value>;

    fn allowed(&self) -> String {
        format!("{:?} or {}", self.word, self.kind.allowed())
    }

    fn read(&self, value: &Spanned<DeValue<'_>>) -> Result<Self::Value, Vec<Wrong>> {
        if matches!(value.get_ref(), DeValue::String(text) if text == self.word) {
            return Ok(None);
        }
        self.kind.read(value).map(Some).map_err(|mut wrongs| {
            // A wrong element of a list keeps its own message.
            let whole = wrongs.iter_mut().filter(|wrong| wrong.suffix.is_empty());
            whole.for_each(|wrong| wrong.allowed = self.allowed());
            wrongs
        })
    }
}

/// A string that a function understands; its error is a word more about what was found, or empty.
pub(super) struct Parsed<T> {
    /// What may stand there.
    pub allowed: &'static str,
    /// Understands it.
    pub parse: fn(&str) -> Result<T, String>,
}

impl<T> Kind for Parsed<T> {
    type Value = T;

    fn allowed(&self) -> String {
        self.allowed.to_owned()
    }

    fn read(&self, value: &Spanned<DeValue<'_>>) -> Result<T, Vec<Wrong>> {
        match value.get_ref() {
            DeValue::String(text) => {
                (self.parse)(text).map_err(|because| self.refuse_because(value, &because))
            }
            _ => Err(self.refuse(value)),
        }
    }
}

/// A list of different values of one kind.
pub(super) struct ListOf<K> {
    /// What the elements are.
    pub kind: K,
    /// How many there may be.
    pub length: RangeInclusive<usize>,
}

impl<K: Kind<Value: PartialEq>> Kind for ListOf<K> {
    type Value = Vec<K::Value>;

    fn allowed(&self) -> String {
        let (least, most) = (self.length.start(), self.length.end());
        let number = match least == most {
            true => format!("exactly {least}"),
            false => format!("{least} to {most}"),
        };
        format!("a list of {number}, each {}", self.kind.allowed())
    }

    fn read(&self, value: &Spanned<DeValue<'_>>) -> Result<Self::Value, Vec<Wrong>> {
        let DeValue::Array(array) = value.get_ref() else {
            return Err(self.refuse(value));
        };
        if !self.length.contains(&array.len()) {
            return Err(self.refuse_because(value, &format!(" of {}", array.len())));
        }
        let (mut values, mut wrongs) = (Vec::new(), Vec::new());
        for (index, element) in array.iter().enumerate() {
            let read = self
                .kind
                .read(element)
                .and_then(|read| match values.contains(&read) {
                    false => Ok(read),
                    true => Err(self.kind.refuse_because(element, " a second time")),
                });
            match read {
                Ok(read) => values.push(read),
                Err(more) => wrongs.extend(more.into_iter().map(|wrong| Wrong {
                    suffix: format!("[{index}]{}", wrong.suffix),
                    ..wrong
                })),
            }
        }
        match wrongs.is_empty() {
            true => Ok(values),
            false => Err(wrongs),
        }
    }
}

/// `a, b or c`.
pub(super) fn or(items: impl Iterator<Item = String>) -> String {
    let items: Vec<String> = items.collect();
    match items.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => items.concat(),
    }
}
