//! How much each tenant and each collector may send: whoever sends too much waits, and nobody else does.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use paas_core::model::{LogCredential, LogCredentialId, LogSender, TenantId};
use tokio::time::Instant;

/// Before there are more, those are forgotten who sent nothing lately.
const MOST: usize = 1_024;
/// Who has too many requests in work comes again after this.
const BUSY: Duration = Duration::from_secs(1);

/// Who is counted together: tenants do not get more by making credentials.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Payer {
    Tenant(TenantId),
    Collector(LogCredentialId),
}

/// What everybody has left.
#[derive(Debug)]
pub(super) struct Rates {
    rate: f64,
    burst: f64,
    requests: usize,
    accounts: Mutex<HashMap<Payer, Account>>,
}

#[derive(Clone, Copy, Debug)]
struct Account {
    /// Bytes that may be sent at once.
    credit: f64,
    at: Instant,
    requests: usize,
}

/// A request in work, until it is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    rates: Arc<Rates>,
    payer: Payer,
}

impl Rates {
    /// So many bytes a second, so many at once, and so many requests at once.
    pub(super) fn new(rate: u64, burst: u64, requests: usize) -> Self {
        Self { rate: rate as f64, burst: burst as f64, requests, accounts: Mutex::default() }
    }

    fn accounts(&self) -> MutexGuard<'_, HashMap<Payer, Account>> {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn settle(&self, account: &mut Account) {
        let now = Instant::now();
        let earned = now.duration_since(account.at).as_secs_f64() * self.rate;
        (account.credit, account.at) = ((account.credit + earned).min(self.burst), now);
    }

    /// Begins a request of which at least so many bytes are to come. Where there are too many, tells when to come again.
    pub(super) fn enter(self: &Arc<Self>, credential: &LogCredential, bytes: u64) -> Result<Turn, Duration> {
        let payer = match &credential.sender {
            LogSender::Service(tenant, ..) => Payer::Tenant(tenant.clone()),
            _ => Payer::Collector(credential.id.clone()),
        };
        let mut accounts = self.accounts();
        if accounts.len() >= MOST && !accounts.contains_key(&payer) {
            accounts.retain(|_, account| {
                self.settle(account);
                account.requests > 0 || account.credit < self.burst
            });
        }
        let fresh = Account { credit: self.burst, at: Instant::now(), requests: 0 };
        let account = accounts.entry(payer.clone()).or_insert(fresh);
        self.settle(account);
        if account.requests >= self.requests {
            return Err(BUSY);
        }
        self.wait(account, bytes as f64).map_or(Ok(()), Err)?;
        account.requests += 1;
        Ok(Turn { rates: Arc::clone(self), payer })
    }

    fn wait(&self, account: &Account, bytes: f64) -> Option<Duration> {
        let missing = bytes.min(self.burst) - account.credit;
        (missing > 0.0).then(|| Duration::from_secs_f64((missing / self.rate).min(3_600.0)))
    }
}

impl Turn {
    /// Pays for so many bytes. Where there is not enough left, tells when there will be; what was paid before is gone, since it was
    /// work, too.
    pub(super) fn pay(&self, bytes: usize) -> Result<(), Duration> {
        let mut accounts = self.rates.accounts();
        let Some(account) = accounts.get_mut(&self.payer) else { return Ok(()) };
        self.rates.settle(account);
        match self.rates.wait(account, bytes as f64) {
            Some(wait) => Err(wait),
            None => {
                account.credit -= bytes as f64;
                Ok(())
            }
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(account) = self.rates.accounts().get_mut(&self.payer) {
            account.requests = account.requests.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use paas_core::model::Timestamp;

    use super::*;

    fn of(tenant: &str, id: &str) -> LogCredential {
        let ids = ("e-1".parse().unwrap(), "a-1".parse().unwrap(), "s-1".parse().unwrap());
        let sender = LogSender::Service(tenant.parse().unwrap(), ids.0, ids.1, ids.2);
        LogCredential::new(id.parse().unwrap(), "agent", sender, Timestamp(1)).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn who_sends_too_much_waits_and_nobody_else_does() {
        let rates = Arc::new(Rates::new(100, 1_000, 2));
        let turn = rates.enter(&of("t-1", "l-1"), 0).unwrap();
        turn.pay(900).unwrap();
        assert_eq!(turn.pay(200), Err(Duration::from_secs(1)));
        // Another credential of the same tenant is no way around it.
        assert_eq!(rates.enter(&of("t-1", "l-2"), 500).unwrap_err(), Duration::from_secs(4));
        rates.enter(&of("t-2", "l-3"), 1_000).unwrap().pay(1_000).unwrap();
        tokio::time::advance(Duration::from_secs(1)).await;
        turn.pay(200).unwrap();
        tokio::time::advance(Duration::from_secs(3_600)).await;
        assert!(turn.pay(1_000).is_ok() && turn.pay(1).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn only_so_many_requests_are_in_work_at_once() {
        let rates = Arc::new(Rates::new(100, 1_000, 2));
        let turns = [rates.enter(&of("t-1", "l-1"), 0).unwrap(), rates.enter(&of("t-1", "l-1"), 0).unwrap()];
        assert_eq!(rates.enter(&of("t-1", "l-1"), 0).unwrap_err(), BUSY);
        assert!(rates.enter(&of("t-2", "l-1"), 0).is_ok());
        drop(turns);
        assert!(rates.enter(&of("t-1", "l-1"), 0).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_sent_nothing_lately_are_forgotten() {
        let rates = Arc::new(Rates::new(100, 1_000, 2));
        for tenant in 0..MOST + 10 {
            drop(rates.enter(&of(&format!("t-{tenant}"), "l-1"), 0).unwrap());
        }
        assert!(rates.accounts().len() < MOST);
    }
}
