//! What one address may have of something at a time, so that nobody can take all of it. Machines that join call from addresses of their own:
//! a share is not divided among honest ones.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// From so many addresses on, those that hold nothing are forgotten.
const REMEMBERED: usize = 256;

#[derive(Debug)]
pub struct Shares {
    each: usize,
    of: Mutex<HashMap<IpAddr, Weak<Semaphore>>>,
}

/// A part of a share, which is given back when this is dropped.
#[derive(Debug)]
pub struct Turn {
    _permit: OwnedSemaphorePermit,
}

impl From<OwnedSemaphorePermit> for Turn {
    fn from(permit: OwnedSemaphorePermit) -> Turn {
        Turn { _permit: permit }
    }
}

impl Turn {
    /// Gives it back after a pause: whoever was refused is not looked at again at once.
    pub fn end_after(self, pause: Duration) {
        tokio::spawn(async move {
            tokio::time::sleep(pause).await;
            drop(self);
        });
    }
}

impl Shares {
    pub fn new(each: usize) -> Shares {
        Shares { each, of: Mutex::new(HashMap::new()) }
    }

    /// Permits of this address; it is remembered for as long as somebody holds one or waits for one.
    pub fn of(&self, address: IpAddr) -> Arc<Semaphore> {
        let address = who(address);
        let mut shares = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(share) = shares.get(&address).and_then(Weak::upgrade) {
            return share;
        }
        if shares.len() >= REMEMBERED {
            shares.retain(|_, share| share.strong_count() > 0);
        }
        let share = Arc::new(Semaphore::new(self.each));
        shares.insert(address, Arc::downgrade(&share));
        share
    }
}

/// Whoever has an IPv6 address has all of its /64 (RFC 4291, 2.5.1).
fn who(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(shares: &Shares, address: &str) -> Option<tokio::sync::OwnedSemaphorePermit> {
        shares.of(address.parse().unwrap()).try_acquire_owned().ok()
    }

    #[test]
    fn nobody_takes_anothers_share() {
        let shares = Shares::new(2);
        let held = [take(&shares, "192.0.2.1"), take(&shares, "::ffff:192.0.2.1")];
        assert!(held.iter().all(Option::is_some) && take(&shares, "192.0.2.1").is_none());
        assert!(take(&shares, "192.0.2.2").is_some());
        let _held = [take(&shares, "2001:db8::1").unwrap(), take(&shares, "2001:db8::2:1").unwrap()];
        assert!(take(&shares, "2001:db8::3").is_none() && take(&shares, "2001:db8:0:1::3").is_some());
        drop(held);
        assert!(take(&shares, "192.0.2.1").is_some());
    }

    #[test]
    fn who_holds_nothing_is_forgotten() {
        let shares = Shares::new(1);
        let held = take(&shares, "192.0.2.1");
        for number in 0..10_000_u32 {
            assert!(shares.of(IpAddr::from(number.to_be_bytes())).try_acquire_owned().is_ok());
        }
        assert!(shares.of.lock().unwrap().len() <= REMEMBERED && take(&shares, "192.0.2.1").is_none());
        drop(held);
    }
}
