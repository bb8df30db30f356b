//! The picture: what is known, in as much room as there is.

use std::collections::VecDeque;

use api::v1::{GroupUsage, PressureShares};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::symbols::bar;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Cell, Paragraph, Row, Sparkline, Table, TableState};

use crate::facts::{Facts, History, Panel, Source};
use crate::figures::{bytes, cpus, longest, percent, summary};

/// A share of time in waiting from which it is shown as much, and as too much.
const MUCH: f64 = 0.1;
const TOO_MUCH: f64 = 0.4;

pub fn draw(frame: &mut Frame<'_>, facts: &Facts) {
    let services = u16::try_from(facts.services.len()).unwrap_or(u16::MAX).saturating_add(3);
    let mut told = vec![title(facts), standing(facts)];
    told.extend(troubles(facts));
    told.extend(notes(facts, frame.area().width));
    let [head, waits, middle, below, foot] = Layout::vertical([
        Constraint::Length(u16::try_from(told.len()).unwrap_or(u16::MAX)),
        Constraint::Length(5),
        Constraint::Max(services),
        Constraint::Min(5),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    frame.render_widget(Paragraph::new(told), head);
    pressure(frame, facts, waits);
    table_of_services(frame, facts, middle);
    panel(frame, facts, below);
    frame.render_widget(Paragraph::new(keys(facts)), foot);
}

fn title(facts: &Facts) -> Line<'static> {
    let Some(version) = &facts.version else { return Line::styled(facts.node.clone(), Modifier::BOLD) };
    let parts = [&version.stage, &version.profile, &version.version, &version.kubernetes, &version.kernel];
    let told = parts.into_iter().filter(|part| !part.is_empty()).map(String::as_str).collect::<Vec<_>>().join("  ");
    let name = Span::styled(version.hostname.clone(), Modifier::BOLD);
    Line::from(vec![name, Span::raw(format!("  {}  {told}  slot {}", facts.node, version.slot))])
}

fn standing(facts: &Facts) -> Line<'static> {
    match &facts.health {
        None => Line::raw("asking..."),
        Some(report) if report.healthy => Line::styled(format!("healthy: all {} checks pass", report.checks.len()), Color::Green),
        Some(report) => Line::styled(summary(report), Color::Yellow),
    }
}

/// What does not answer: what is shown of it may be old.
fn troubles(facts: &Facts) -> Vec<Line<'static>> {
    let line = |(source, problem): (&Source, &String)| Line::styled(format!("{}: no answer: {problem}", source.name()), Color::Red);
    facts.troubles.iter().map(line).collect()
}

/// Whole, in as many lines as it takes: a fingerprint is of no use without its end.
fn notes(facts: &Facts, width: u16) -> Vec<Line<'static>> {
    let width = usize::from(width.max(1));
    let letters = |note: &String| note.chars().collect::<Vec<char>>();
    facts
        .notes
        .iter()
        .map(letters)
        .flat_map(|note| note.chunks(width).map(|part| Line::raw(part.iter().collect::<String>())).collect::<Vec<_>>())
        .collect()
}

fn pressure(frame: &mut Frame<'_>, facts: &Facts, area: Rect) {
    let usage = facts.usage.clone().unwrap_or_default();
    let PressureShares { cpu_some, memory_some, io_some, .. } = usage.pressure.unwrap_or_default();
    let cpu = usage.cpus_used.map(|used| format!("CPU {} of {}", cpus(Some(used)), usage.cpus));
    let memory = usage.memory_used_bytes.map(|used| format!("memory {} of {}", bytes(Some(used)), bytes(usage.memory_total_bytes)));
    let load = usage.load.first().map(|load| format!("I/O, load {load:.2}"));
    let names = [(cpu, "CPU"), (memory, "memory"), (load, "I/O")].map(|(known, name)| known.unwrap_or_else(|| name.to_owned()));
    // The kernel's fonts for screens have a half block and a whole one, and none between (lib/fonts, by code page 437).
    let bars = if facts.foot.is_none() { bar::NINE_LEVELS } else { bar::THREE_LEVELS };
    let columns = Layout::horizontal([Constraint::Fill(1), Constraint::Fill(1), Constraint::Fill(1)]).areas::<3>(area);
    for (((area, name), history), now) in columns.into_iter().zip(names).zip(&facts.waits).zip([cpu_some, memory_some, io_some]) {
        let waited = now.map(|now| format!(", waits {}", percent(Some(now)))).unwrap_or_default();
        sparkline(frame, area, &format!("{name}{waited}"), history, now, bars.clone());
    }
}

fn sparkline(frame: &mut Frame<'_>, area: Rect, title: &str, history: &History, now: Option<f64>, bars: bar::Set<'static>) {
    let block = Block::bordered().title(title.to_owned());
    let figures = history.newest(usize::from(block.inner(area).width));
    let line = Sparkline::default().block(block).data(figures).max(1000).style(tone(now)).absent_value_symbol(" ").bar_set(bars);
    frame.render_widget(line, area);
}

fn tone(share: Option<f64>) -> Style {
    match share {
        Some(share) if share >= TOO_MUCH => Color::Red.into(),
        Some(share) if share >= MUCH => Color::Yellow.into(),
        _ => Style::new(),
    }
}

fn table_of_services(frame: &mut Frame<'_>, facts: &Facts, area: Rect) {
    let rows = facts.names().into_iter().map(|name| {
        let seen = facts.services.get(name).cloned().unwrap_or_default();
        let state = match seen.state.as_str() {
            "ready" => Style::new(),
            "backoff" | "failed" => Color::Red.into(),
            _ => Color::Yellow.into(),
        };
        let restarts = if seen.restarts == 0 { String::new() } else { seen.restarts.to_string() };
        let cells = [Cell::new(name.to_owned()), Cell::new(seen.state).style(state), Cell::new(restarts)];
        Row::new(cells.into_iter().chain(figures(facts.usage_of(name))))
    });
    let widths = [Constraint::Min(24), Constraint::Length(10), Constraint::Length(8), FIGURE, FIGURE, FIGURE];
    let table = Table::new(rows, widths)
        .header(Row::new(["SERVICE", "STATE", "RESTARTS", "CPU", "MEMORY", "WAITED"]).style(Modifier::BOLD))
        .row_highlight_style(if facts.foot.is_none() { Modifier::REVERSED } else { Modifier::empty() })
        .block(Block::bordered().title(format!("services by {}", facts.sort.name())));
    let mut state = TableState::default().with_selected(facts.selected());
    frame.render_stateful_widget(table, area, &mut state);
}

const FIGURE: Constraint = Constraint::Length(8);

/// CPUs, memory and the longest wait for any of CPU, memory and I/O.
fn figures(group: Option<&GroupUsage>) -> [Cell<'static>; 3] {
    let waited = group.and_then(|group| longest(group.pressure.as_ref()?));
    let texts = [cpus(group.and_then(|group| group.cpus_used)), bytes(group.and_then(|group| group.memory_used_bytes))];
    let [cpu, memory] = texts.map(Cell::new);
    [cpu, memory, Cell::new(percent(waited)).style(tone(waited))]
}

fn panel(frame: &mut Frame<'_>, facts: &Facts, area: Rect) {
    match facts.panel {
        Panel::Events => lines(frame, area, "events", &facts.events),
        Panel::Log => lines(frame, area, &format!("log of {}", facts.log.0), &facts.log.1),
        Panel::Kernel => lines(frame, area, "kernel", &facts.kernel),
        Panel::Pods => pods(frame, facts, area),
    }
}

/// The last ones, as many as there is room for.
fn lines(frame: &mut Frame<'_>, area: Rect, title: &str, all: &VecDeque<String>) {
    let block = Block::bordered().title(title.to_owned());
    let room = usize::from(block.inner(area).height);
    let last = all.iter().skip(all.len().saturating_sub(room)).map(|line| Line::raw(line.as_str()));
    frame.render_widget(Paragraph::new(last.collect::<Vec<_>>()).block(block), area);
}

fn pods(frame: &mut Frame<'_>, facts: &Facts, area: Rect) {
    let rows = facts.pods().into_iter().map(|group| {
        let names = [Cell::new(group.namespace.clone()), Cell::new(group.pod.clone())];
        Row::new(names.into_iter().chain(figures(Some(group))))
    });
    let widths = [Constraint::Length(20), Constraint::Min(24), FIGURE, FIGURE, FIGURE];
    let table = Table::new(rows, widths)
        .header(Row::new(["NAMESPACE", "POD", "CPU", "MEMORY", "WAITED"]).style(Modifier::BOLD))
        .block(Block::bordered().title("pods"));
    frame.render_widget(table, area);
}

fn keys(facts: &Facts) -> Line<'static> {
    if let Some(foot) = &facts.foot {
        return Line::raw(foot.clone());
    }
    let mut spans = vec![Span::raw("up/down choose  s sort  Tab ")];
    for (number, panel) in (1..).zip(Panel::ALL) {
        let style = if panel == facts.panel { Modifier::REVERSED.into() } else { Style::new() };
        spans.extend([Span::styled(format!("{number} {}", panel.name()), style), Span::raw("  ")]);
    }
    spans.push(Span::raw("q quit"));
    Line::from(spans)
}

#[cfg(test)]
mod tests;
