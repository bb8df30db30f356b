//! What keys mean.

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use dashboard::facts::{Change, Panel};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Quit,
    Change(Change),
}

/// Nothing for keys without a meaning, and for those that are let go.
pub fn action(key: KeyEvent) -> Option<Action> {
    if key.kind == KeyEventKind::Release {
        return None;
    }
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    Some(match key.code {
        KeyCode::Char('c') if control => Action::Quit,
        KeyCode::Char('q') | KeyCode::Esc => Action::Quit,
        KeyCode::Up | KeyCode::Char('k') => Action::Change(Change::Up),
        KeyCode::Down | KeyCode::Char('j') => Action::Change(Change::Down),
        KeyCode::Tab => Action::Change(Change::NextPanel),
        KeyCode::Char('s') => Action::Change(Change::NextSort),
        KeyCode::Char(digit) => {
            let number = digit.to_digit(10)?.checked_sub(1)?;
            Action::Change(Change::Show(*Panel::ALL.get(usize::try_from(number).ok()?)?))
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_their_meaning() {
        let typed = |code| action(KeyEvent::new(code, KeyModifiers::NONE));
        assert_eq!(typed(KeyCode::Char('q')), Some(Action::Quit));
        assert_eq!(action(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL)), Some(Action::Quit));
        assert_eq!(typed(KeyCode::Char('1')), Some(Action::Change(Change::Show(Panel::Events))));
        assert_eq!(typed(KeyCode::Char('4')), Some(Action::Change(Change::Show(Panel::Pods))));
        for nothing in ['0', '5', 'x'] {
            assert_eq!(typed(KeyCode::Char(nothing)), None, "{nothing}");
        }
        let released = KeyEvent { kind: KeyEventKind::Release, ..KeyEvent::new(KeyCode::Char('q'), KeyModifiers::NONE) };
        assert_eq!(action(released), None);
    }
}
