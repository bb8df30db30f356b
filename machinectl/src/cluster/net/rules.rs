//! Changes to the rules of a segment.

use testbed::segment::{Link, Plan};

/// Says something more of links, in place of what was said of the same links before.
pub fn change(plan: &mut Plan, links: &[Link], change: impl Fn(Link) -> Link) {
    for link in links {
        let same = |other: &Link| (&other.from, &other.to, other.transport_port) == (&link.from, &link.to, link.transport_port);
        match plan.links.iter_mut().find(|other| same(other)) {
            Some(known) => *known = change(known.clone()),
            None => plan.links.push(change(link.clone())),
        }
    }
    // What says nothing more is no rule.
    plan.links.retain(|link| link.cut || link.loss > 0.0 || link.delay_ms > 0);
}

/// Undoes what names this machine, or all of it.
pub fn heal(plan: &mut Plan, machine: Option<&str>) {
    plan.links.retain(|link| machine.is_some_and(|machine| link.from != machine && link.to != machine));
}

/// `10%` or `0.1`.
pub fn share(text: &str) -> Result<f64, String> {
    let share = match text.strip_suffix('%') {
        Some(percent) => percent.parse::<f64>().map(|percent| percent / 100.0),
        None => text.parse::<f64>(),
    };
    share.ok().filter(|share| (0.0..=1.0).contains(share)).ok_or_else(|| "expected a share of frames, such as 10% or 0.1".to_owned())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_is_said_later_of_a_link_replaces_what_was_said_before() {
        let mut plan = Plan::default();
        let links = [Link::new("a", "*"), Link::new("*", "a")];
        change(&mut plan, &links, |link| link.delay(Duration::from_millis(50)));
        change(&mut plan, &links[..1], |link| link.loss(0.5));
        change(&mut plan, &[Link::new("b", "c")], Link::cut);
        let delayed = |link: Link| link.delay(Duration::from_millis(50));
        let expected = [delayed(Link::new("a", "*")).loss(0.5), delayed(Link::new("*", "a")), Link::new("b", "c").cut()];
        assert_eq!(plan.links, expected);
        change(&mut plan, &links, |link| link.delay(Duration::ZERO));
        assert_eq!(plan.links, [Link::new("a", "*").loss(0.5), Link::new("b", "c").cut()]);
        let mut other = plan.clone();
        heal(&mut other, Some("c"));
        assert_eq!(other.links, [Link::new("a", "*").loss(0.5)]);
        heal(&mut plan, None);
        assert!(plan.links.is_empty());
    }

    #[test]
    fn a_share_is_a_percentage_or_a_fraction() {
        assert_eq!([share("10%"), share("0.25"), share("0")], [Ok(0.1), Ok(0.25), Ok(0.0)]);
        for wrong in ["", "ten", "110%", "-1%", "2"] {
            assert!(share(wrong).is_err(), "{wrong}");
        }
    }
}
