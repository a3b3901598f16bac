//! What is wrong with a text that is not JSON, in the words of Go's `encoding/json`.
//!
//! Runs only after serde_json has refused a text, and only to find the words: clients show them to people, and some match
//! on them.

use crate::DecodeError;

/// The first fault of `text`. A text without one that serde_json refused all the same (a lone surrogate, too deep nesting) is
/// reported with `fallback`.
pub(crate) fn explain(text: &str, fallback: &serde_json::Error) -> DecodeError {
    let mut scanner = Scanner { bytes: text.as_bytes(), position: 0, depth: 0 };
    match scanner.value() {
        Err(fault) => fault,
        Ok(()) => DecodeError::Other(fallback.to_string()),
    }
}

struct Scanner<'a> {
    bytes: &'a [u8],
    position: usize,
    depth: u32,
}

impl Scanner<'_> {
    fn peek(&mut self) -> Option<u8> {
        self.bytes.get(self.position).copied()
    }

    /// The next byte that isn't white space, which stays unread.
    fn token(&mut self) -> Result<u8, DecodeError> {
        while let Some(b' ' | b'\t' | b'\r' | b'\n') = self.peek() {
            self.position += 1;
        }
        self.peek().ok_or(DecodeError::UnexpectedEnd)
    }

    fn fault<T>(&self, context: &str) -> Result<T, DecodeError> {
        let rest = String::from_utf8_lossy(&self.bytes[self.position..]);
        match rest.chars().next() {
            None => Err(DecodeError::UnexpectedEnd),
            Some(c) => Err(DecodeError::Syntax(format!("invalid character {} {context}", quote(c)))),
        }
    }

    fn value(&mut self) -> Result<(), DecodeError> {
        if self.depth > 200 {
            return Ok(());
        }
        match self.token()? {
            b'{' => self.nested(Self::object),
            b'[' => self.nested(Self::array),
            b'"' => self.string(),
            b't' => self.literal("true"),
            b'f' => self.literal("false"),
            b'n' => self.literal("null"),
            b'-' | b'0'..=b'9' => self.number(),
            _ => self.fault("looking for beginning of value"),
        }
    }

    fn nested(&mut self, inside: fn(&mut Self) -> Result<(), DecodeError>) -> Result<(), DecodeError> {
        self.depth += 1;
        self.position += 1;
        inside(self)?;
        self.depth -= 1;
        Ok(())
    }

    fn object(&mut self) -> Result<(), DecodeError> {
        if self.token()? == b'}' {
            self.position += 1;
            return Ok(());
        }
        loop {
            if self.token()? != b'"' {
                return self.fault("looking for beginning of object key string");
            }
            self.string()?;
            if self.token()? != b':' {
                return self.fault("after object key");
            }
            self.position += 1;
            self.value()?;
            match self.token()? {
                b',' => self.position += 1,
                b'}' => break,
                _ => return self.fault("after object key:value pair"),
            }
        }
        self.position += 1;
        Ok(())
    }

    fn array(&mut self) -> Result<(), DecodeError> {
        if self.token()? == b']' {
            self.position += 1;
            return Ok(());
        }
        loop {
            self.value()?;
            match self.token()? {
                b',' => self.position += 1,
                b']' => break,
                _ => return self.fault("after array element"),
            }
        }
        self.position += 1;
        Ok(())
    }

    fn string(&mut self) -> Result<(), DecodeError> {
        self.position += 1;
        loop {
            match self.peek() {
                None => return Err(DecodeError::UnexpectedEnd),
                Some(b'"') => break,
                Some(0..0x20) => return self.fault("in string literal"),
                Some(b'\\') => {
                    self.position += 1;
                    match self.peek() {
                        Some(b'u') => {
                            for _ in 0..4 {
                                self.position += 1;
                                if !self.peek().is_some_and(|c| c.is_ascii_hexdigit()) {
                                    return self.fault("in \\u hexadecimal character escape");
                                }
                            }
                        }
                        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {}
                        _ => return self.fault("in string escape code"),
                    }
                    self.position += 1;
                }
                Some(_) => self.position += 1,
            }
        }
        self.position += 1;
        Ok(())
    }

    fn literal(&mut self, word: &str) -> Result<(), DecodeError> {
        for expected in word.chars() {
            if self.peek().map(char::from) != Some(expected) {
                return self.fault(&format!("in literal {word} (expecting '{expected}')"));
            }
            self.position += 1;
        }
        Ok(())
    }

    fn digits(&mut self, context: &str) -> Result<(), DecodeError> {
        if !self.peek().is_some_and(|c| c.is_ascii_digit()) {
            return self.fault(context);
        }
        while self.peek().is_some_and(|c| c.is_ascii_digit()) {
            self.position += 1;
        }
        Ok(())
    }

    fn number(&mut self) -> Result<(), DecodeError> {
        if self.peek() == Some(b'-') {
            self.position += 1;
        }
        if self.peek() == Some(b'0') {
            self.position += 1;
        } else {
            self.digits("in numeric literal")?;
        }
        if self.peek() == Some(b'.') {
            self.position += 1;
            self.digits("after decimal point in numeric literal")?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.position += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.position += 1;
            }
            self.digits("in exponent of numeric literal")?;
        }
        Ok(())
    }
}

fn quote(c: char) -> String {
    match c {
        '\'' => r"'\''".to_owned(),
        '"' => "'\"'".to_owned(),
        '\n' => r"'\n'".to_owned(),
        '\t' => r"'\t'".to_owned(),
        '\r' => r"'\r'".to_owned(),
        '\\' => r"'\\'".to_owned(),
        c if c.is_control() => format!("'\\x{:02x}'", u32::from(c)),
        c => format!("'{c}'"),
    }
}
