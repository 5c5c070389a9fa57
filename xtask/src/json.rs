//! A reader for JSON, as much of it as `cargo metadata` needs.

use std::iter::Peekable;
use std::str::Chars;

/// A JSON value. Numbers keep their text: nobody here counts with them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Number(String),
    String(String),
    Array(Vec<Value>),
    Object(Vec<(String, Value)>),
}

impl Value {
    /// Reads one value, and nothing after it.
    ///
    /// # Errors
    ///
    /// What was expected.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut reader = Reader {
            rest: text.chars().peekable(),
        };
        let value = reader.value(0)?;
        reader.skip_space();
        match reader.rest.next() {
            None => Ok(value),
            Some(next) => Err(format!("`{next}` after the end of the JSON value")),
        }
    }

    /// A member of an object.
    pub(crate) fn member(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Object(members) => members
                .iter()
                .find_map(|(key, value)| (key == name).then_some(value)),
            _ => None,
        }
    }

    pub(crate) fn text(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn elements(&self) -> Option<&[Self]> {
        match self {
            Self::Array(elements) => Some(elements),
            _ => None,
        }
    }

    pub(crate) fn members(&self) -> Option<&[(String, Self)]> {
        match self {
            Self::Object(members) => Some(members),
            _ => None,
        }
    }
}

const DEEPEST: usize = 64;

struct Reader<'a> {
    rest: Peekable<Chars<'a>>,
}

impl Reader<'_> {
    fn value(&mut self, depth: usize) -> Result<Value, String> {
        if depth > DEEPEST {
            return Err(String::from("JSON nested too deeply"));
        }
        self.skip_space();
        match self.rest.peek() {
            Some('{') => self.object(depth),
            Some('[') => self.array(depth),
            Some('"') => self.string().map(Value::String),
            Some(_) => self.word(),
            None => Err(String::from("JSON ends too early")),
        }
    }

    fn object(&mut self, depth: usize) -> Result<Value, String> {
        self.expect('{')?;
        let mut members = Vec::new();
        self.skip_space();
        if self.rest.next_if_eq(&'}').is_some() {
            return Ok(Value::Object(members));
        }
        loop {
            self.skip_space();
            let name = self.string()?;
            self.skip_space();
            self.expect(':')?;
            members.push((name, self.value(depth + 1)?));
            self.skip_space();
            if self.rest.next_if_eq(&',').is_none() {
                self.expect('}')?;
                return Ok(Value::Object(members));
            }
        }
    }

    fn array(&mut self, depth: usize) -> Result<Value, String> {
        self.expect('[')?;
        let mut elements = Vec::new();
        self.skip_space();
        if self.rest.next_if_eq(&']').is_some() {
            return Ok(Value::Array(elements));
        }
        loop {
            elements.push(self.value(depth + 1)?);
            self.skip_space();
            if self.rest.next_if_eq(&',').is_none() {
                self.expect(']')?;
                return Ok(Value::Array(elements));
            }
        }
    }

    fn string(&mut self) -> Result<String, String> {
        self.expect('"')?;
        let mut text = String::new();
        loop {
            match self.next()? {
                '"' => return Ok(text),
                '\\' => match self.next()? {
                    'n' => text.push('\n'),
                    't' => text.push('\t'),
                    'r' => text.push('\r'),
                    'b' => text.push('\u{8}'),
                    'f' => text.push('\u{c}'),
                    'u' => {
                        let unit = self.code_unit()?;
                        // Halves of a surrogate pair come one by one: no name that we read has them.
                        text.push(char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER));
                    }
                    other => text.push(other),
                },
                other => text.push(other),
            }
        }
    }

    fn code_unit(&mut self) -> Result<u32, String> {
        let mut unit = 0;
        for _ in 0..4 {
            let digit = self
                .next()?
                .to_digit(16)
                .ok_or("a JSON escape without four digits")?;
            unit = unit * 16 + digit;
        }
        Ok(unit)
    }

    /// A number, `true`, `false` or `null`.
    fn word(&mut self) -> Result<Value, String> {
        let mut word = String::new();
        while let Some(next) = self
            .rest
            .next_if(|next| next.is_ascii_alphanumeric() || "+-.".contains(*next))
        {
            word.push(next);
        }
        match word.as_str() {
            "null" => Ok(Value::Null),
            "true" => Ok(Value::Bool(true)),
            "false" => Ok(Value::Bool(false)),
            _ if word.parse::<f64>().is_ok() => Ok(Value::Number(word)),
            _ => Err(format!("`{word}` is no JSON value")),
        }
    }

    fn skip_space(&mut self) {
        while self.rest.next_if(char::is_ascii_whitespace).is_some() {}
    }

    fn next(&mut self) -> Result<char, String> {
        self.rest
            .next()
            .ok_or_else(|| String::from("JSON ends too early"))
    }

    fn expect(&mut self, expected: char) -> Result<(), String> {
        match self.next()? {
            next if next == expected => Ok(()),
            next => Err(format!("`{next}` in JSON where `{expected}` was expected")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_all_kinds_are_read() {
        let value = Value::parse(
            r#" {"a": [1, -2.5e3, true, false, null, []], "b": {"c": "d\"\n\u00e9\\"}, "e": {}} "#,
        )
        .unwrap();
        let a = value.member("a").unwrap().elements().unwrap();
        assert_eq!(a.len(), 6);
        assert_eq!(a[1], Value::Number(String::from("-2.5e3")));
        assert_eq!(a[4], Value::Null);
        let c = value
            .member("b")
            .and_then(|b| b.member("c"))
            .and_then(Value::text);
        assert_eq!(c, Some("d\"\né\\"));
        assert_eq!(value.member("e").unwrap().members(), Some(&[][..]));
        assert_eq!(value.member("f"), None);
    }

    #[test]
    fn what_is_not_json_is_refused() {
        let deep = "[".repeat(100);
        for text in [
            "",
            "{",
            "[1,]",
            "{\"a\" 1}",
            "nul",
            "\"open",
            "1 2",
            "{'a':1}",
            &deep,
        ] {
            assert!(Value::parse(text).is_err(), "{text} was taken");
        }
    }
}
