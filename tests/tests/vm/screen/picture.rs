//! What a screen shows, read off a picture of its pixels.
//!
//! No font is needed: a line of text that is known to be there gives itself away by which of its letters are the same, and tells what these letters
//! look like everywhere else.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};

/// Pixels of a letter: the kernel's font for screens of ordinary size (lib/fonts/font_8x16.c).
const WIDTH: usize = 8;
const HEIGHT: usize = 16;

/// A letter's rows, a bit for each pixel that is not of the background.
type Shape = [u8; HEIGHT];

#[derive(Debug, PartialEq, Eq)]
pub struct Picture {
    rows: Vec<Vec<Shape>>,
}

/// How letters look.
pub type Letters = BTreeMap<Shape, char>;

impl Picture {
    /// Of a portable pixmap (ppm(5), P6), as QEMU's `screendump` writes it.
    pub fn of(pixmap: &[u8]) -> anyhow::Result<Picture> {
        let (header, pixels) = header(pixmap)?;
        let [width, height, most] = header;
        ensure!(most == 255, "{most} shades of a colour");
        ensure!(pixels.len() == width * height * 3, "{} bytes of {width} x {height} pixels", pixels.len());
        let pixel = |x: usize, y: usize| &pixels[(y * width + x) * 3..][..3];
        let shape = |column: usize, row: usize| {
            let (left, top) = (column * WIDTH, row * HEIGHT);
            let line = |y: usize| (0..WIDTH).fold(0, |bits, x| bits << 1 | u8::from(pixel(left + x, top + y) != pixel(left, top)));
            std::array::from_fn(line)
        };
        let rows = (0..height / HEIGHT).map(|row| (0..width / WIDTH).map(|column| shape(column, row)).collect()).collect();
        Ok(Picture { rows })
    }

    /// The letters of this text, if it stands somewhere.
    pub fn learn(&self, text: &str) -> Option<Letters> {
        let text: Vec<char> = text.chars().collect();
        self.rows.iter().flat_map(|row| row.windows(text.len())).find_map(|shapes| letters(shapes, &text))
    }

    /// Its lines, with `?` for letters that are not known.
    pub fn read(&self, letters: &Letters) -> Vec<String> {
        let read = |row: &Vec<Shape>| row.iter().map(|shape| letters.get(shape).copied().unwrap_or('?')).collect::<String>();
        self.rows.iter().map(read).map(|line| line.trim_end().to_owned()).collect()
    }
}

/// If these shapes can be this text: the same letter always looks the same, and others differ. A space is empty, and nothing else is.
fn letters(shapes: &[Shape], text: &[char]) -> Option<Letters> {
    let mut looks = BTreeMap::from([(' ', Shape::default())]);
    let mut letters = Letters::from([(Shape::default(), ' ')]);
    for (&shape, &letter) in shapes.iter().zip(text) {
        if *looks.entry(letter).or_insert(shape) != shape || *letters.entry(shape).or_insert(letter) != letter {
            return None;
        }
    }
    Some(letters)
}

/// Width, height and the largest number of a colour, and what follows them.
fn header(pixmap: &[u8]) -> anyhow::Result<([usize; 3], &[u8])> {
    let mut rest = pixmap.strip_prefix(b"P6").context("no portable pixmap")?;
    let mut numbers = [0; 3];
    for number in &mut numbers {
        rest = rest.trim_ascii_start();
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        *number = std::str::from_utf8(&rest[..digits])?.parse().context("a number in a pixmap's header")?;
        rest = &rest[digits..];
    }
    // One white space, then pixels.
    Ok((numbers, rest.get(1..).context("a pixmap without pixels")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// White on black, or the other way round; a letter is a pattern of its own.
    fn drawn(lines: &[&str], reversed: bool) -> Vec<u8> {
        let columns = lines.iter().map(|line| line.len()).max().unwrap_or_default();
        let mut pixmap = format!("P6\n{} {}\n255\n", columns * WIDTH, lines.len() * HEIGHT).into_bytes();
        for line in lines {
            for y in 0..HEIGHT {
                for letter in format!("{line:columns$}").bytes() {
                    let row = if y == 8 && letter != b' ' { letter } else { 0 };
                    let set = (0..WIDTH).map(|x| row >> (WIDTH - 1 - x) & 1 == 1);
                    pixmap.extend(set.flat_map(|set| [if set == reversed { 0 } else { 255 }; 3]));
                }
            }
        }
        pixmap
    }

    #[test]
    fn a_known_line_teaches_the_letters_of_the_others() {
        for reversed in [false, true] {
            let picture = Picture::of(&drawn(&["healthy and late", "", "  an eel, a hat"], reversed)).unwrap();
            let letters = picture.learn("healthy and").unwrap();
            assert_eq!(picture.read(&letters), ["healthy and late", "", "  an eel? a hat"]);
            // The same letters at the same places would be needed.
            assert_eq!(picture.learn("healthy ant"), None);
            assert_eq!(picture.learn("wealthy end"), None);
        }
    }

    #[test]
    fn what_is_no_picture_is_told() {
        for (bytes, problem) in [
            (&b"P5 1 1 255 x"[..], "no portable pixmap"),
            (b"P6 8 16 255\nxyz", "3 bytes of 8 x 16 pixels"),
            (b"P6 8", "a number in a pixmap's header"),
        ] {
            assert_eq!(Picture::of(bytes).unwrap_err().to_string(), problem);
        }
    }
}
