//! A virtual terminal of the kernel's as ratatui draws on it (console_codes(4)). Nothing is read from it.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::libc::{O_NOCTTY, O_NONBLOCK};
use ratatui::backend::{Backend, ClearType, WindowSize};
use ratatui::buffer::Cell;
use ratatui::layout::{Position, Size};
use ratatui::style::{Color, Modifier};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// What a terminal is taken for that does not know its size: the least that any has.
const LEAST: Size = Size { width: 80, height: 25 };

#[derive(Debug)]
pub struct VirtualTerminal {
    device: Arc<File>,
    /// What is drawn and not written yet.
    waiting: Vec<u8>,
}

impl VirtualTerminal {
    pub fn open(device: &Path) -> io::Result<VirtualTerminal> {
        Ok(VirtualTerminal { device: Arc::new(open(device)?), waiting: Vec::new() })
    }

    /// Writes what was drawn, and whether all of it was taken in time; the rest is given up. It takes long only where somebody holds the
    /// terminal's output (Ctrl+S, Scroll Lock).
    pub async fn write(&mut self, within: Duration) -> io::Result<bool> {
        let (device, codes) = (self.device.clone(), std::mem::take(&mut self.waiting));
        tokio::task::spawn_blocking(move || write_all(&device, &codes, Instant::now() + within)).await.map_err(io::Error::other)?
    }

    fn put(&mut self, codes: &str) {
        self.waiting.extend_from_slice(codes.as_bytes());
    }
}

fn write_all(mut device: &File, mut codes: &[u8], until: Instant) -> io::Result<bool> {
    while !codes.is_empty() {
        match device.write(codes) {
            Ok(written) => codes = &codes[written..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let left = until.saturating_duration_since(Instant::now());
                let left = Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() };
                if poll(&mut [PollFd::new(device, PollFlags::OUT)], Some(&left))? == 0 {
                    return Ok(false);
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

fn open(device: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).custom_flags(O_NOCTTY | O_NONBLOCK).open(device)
}

/// Brings the virtual terminal of this number to the front, by way of any of them.
pub fn bring_forward(number: u8, by: &Path) -> io::Result<()> {
    open(by)?.write_all(format!("\x1b[12;{number}]").as_bytes())
}

/// Of the eight colours that every console has; the rest is the terminal's own.
fn colour(colour: Color) -> &'static str {
    match colour {
        Color::Red => "31",
        Color::Green => "32",
        Color::Yellow => "33",
        _ => "39",
    }
}

fn style(cell: &Cell) -> String {
    let mut codes = format!("\x1b[0;{}", colour(cell.fg));
    for (modifier, code) in [(Modifier::BOLD, ";1"), (Modifier::REVERSED, ";7")] {
        if cell.modifier.contains(modifier) {
            codes.push_str(code);
        }
    }
    codes + "m"
}

impl Backend for VirtualTerminal {
    type Error = io::Error;

    fn draw<'a, I: Iterator<Item = (u16, u16, &'a Cell)>>(&mut self, content: I) -> io::Result<()> {
        let mut at = None;
        let mut styled = String::new();
        for (x, y, cell) in content {
            if at != Some((x, y)) {
                self.put(&format!("\x1b[{};{}H", y + 1, x + 1));
            }
            let wanted = style(cell);
            if wanted != styled {
                self.put(&wanted);
                styled = wanted;
            }
            self.put(cell.symbol());
            at = Some((x + 1, y));
        }
        Ok(())
    }

    fn hide_cursor(&mut self) -> io::Result<()> {
        self.put("\x1b[?25l");
        Ok(())
    }

    fn show_cursor(&mut self) -> io::Result<()> {
        self.put("\x1b[?25h");
        Ok(())
    }

    /// Where each picture begins: the terminal is not asked, since its answer would have to be read.
    fn get_cursor_position(&mut self) -> io::Result<Position> {
        Ok(Position::ORIGIN)
    }

    fn set_cursor_position<P: Into<Position>>(&mut self, position: P) -> io::Result<()> {
        let Position { x, y } = position.into();
        self.put(&format!("\x1b[{};{}H", y + 1, x + 1));
        Ok(())
    }

    fn clear(&mut self) -> io::Result<()> {
        self.clear_region(ClearType::All)
    }

    fn clear_region(&mut self, region: ClearType) -> io::Result<()> {
        self.put(match region {
            ClearType::All => "\x1b[0m\x1b[2J",
            ClearType::AfterCursor => "\x1b[0J",
            ClearType::BeforeCursor => "\x1b[1J",
            ClearType::CurrentLine => "\x1b[2K",
            ClearType::UntilNewLine => "\x1b[0K",
        });
        Ok(())
    }

    fn size(&self) -> io::Result<Size> {
        let size = rustix::termios::tcgetwinsize(&*self.device)?;
        Ok(if size.ws_row == 0 || size.ws_col == 0 { LEAST } else { Size { width: size.ws_col, height: size.ws_row } })
    }

    fn window_size(&mut self) -> io::Result<WindowSize> {
        Ok(WindowSize { columns_rows: self.size()?, pixels: Size::ZERO })
    }

    /// `write` does it.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
