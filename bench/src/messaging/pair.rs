//! Two processes, one thread each, pinned alike; the far end is this program again.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, anyhow};
use onemec_runtime::pki::{CaAuthority, Credentials, Pki, Trust, Validity};
use onemec_wire::NodeId;
use rustix::thread::{CpuSet, sched_setaffinity};
use serde::{Deserialize, Serialize};

use super::{bare, ours};

/// First argument of the far end.
pub(crate) const ROLE: &str = "far-end-of-messaging";
const DOMAIN: &str = "bench.onemec";
const VALID: Duration = Duration::from_secs(24 * 3600);

/// What the far end is told: one line on its standard input. It ends with that.
#[derive(Serialize, Deserialize)]
struct Order {
    ca: String,
    certificate: String,
    key: String,
    cpu: usize,
}

/// Where it listens: one line on its standard output.
#[derive(Serialize, Deserialize)]
struct Ready {
    ours: SocketAddr,
    bare: SocketAddr,
}

fn pki(ca: &str, certificate: &str, key: &str) -> anyhow::Result<Pki> {
    let credentials = Credentials::from_pem(certificate, key)?;
    Ok(Pki::new(Arc::new(credentials), Arc::new(Trust::new(DOMAIN, ca)?))?)
}

/// Binds the calling thread, and those that it starts, to a CPU.
fn pin(cpu: usize) -> anyhow::Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu);
    sched_setaffinity(None, &set).with_context(|| format!("CPU {cpu}"))
}

/// The CPUs of the two ends: the first and the last that this process may use.
fn cpus() -> anyhow::Result<(usize, usize)> {
    let set = rustix::thread::sched_getaffinity(None)?;
    let mut usable = (0..CpuSet::MAX_CPU).filter(|c| set.is_set(*c));
    let first = usable.next().context("no CPU")?;
    Ok((first, usable.next_back().unwrap_or(first)))
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

/// The far end's process.
pub(crate) fn far_end() -> anyhow::Result<()> {
    let mut lines = std::io::stdin().lock().lines();
    let order = lines.next().context("no order")??;
    let order: Order = serde_json::from_str(&order)?;
    pin(order.cpu)?;
    let pki = pki(&order.ca, &order.certificate, &order.key)?;
    runtime()?.block_on(async {
        let (ours, bare) = (ours::serve(&pki)?, bare::serve(&pki)?);
        let ready = Ready { ours: ours.local_addr()?, bare: bare.local_addr()? };
        println!("{}", serde_json::to_string(&ready)?);
        // The end of standard input is the end of the near end. Read on a thread of its own: it only waits.
        drop(lines);
        tokio::task::spawn_blocking(|| std::io::stdin().lock().lines().next()).await?;
        Ok(())
    })
}

/// The child; killed with this.
struct Far(Child);

impl Drop for Far {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ended = self.0.kill();
        let _ended = self.0.wait();
    }
}

fn start(ca: &CaAuthority, now_s: u64, cpu: usize) -> anyhow::Result<(Far, Ready)> {
    let issued = ca.issue_node(NodeId(2), Validity::starting(now_s, VALID))?;
    let mut child = Command::new(std::env::current_exe()?)
        .arg(ROLE)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("start of the far end")?;
    let (stdin, stdout) = (child.stdin.as_mut().map(|s| s as &mut dyn std::io::Write), child.stdout.take());
    let order = Order {
        ca: ca.certificate_pem().into(),
        certificate: issued.certificate_pem.to_string(),
        key: issued.key_pem.to_string(),
        cpu,
    };
    let order = serde_json::to_string(&order)?;
    let told = stdin.ok_or_else(|| anyhow!("no pipe")).and_then(|pipe| Ok(writeln!(pipe, "{order}")?));
    let far = Far(child);
    told?;
    let mut line = String::new();
    BufReader::new(stdout.context("no pipe")?).read_line(&mut line)?;
    let ready = serde_json::from_str(&line).context("the far end did not start; its error stands above")?;
    Ok((far, ready))
}

/// Runs `measure` with both near ends, on a pinned thread of its own.
pub(crate) fn with_pair<T: Send>(
    measure: impl AsyncFnOnce(ours::Near, bare::Near) -> anyhow::Result<T> + Send,
) -> anyhow::Result<T> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let ca = CaAuthority::create(DOMAIN, Validity::starting(now, VALID))?;
    let (here, there) = cpus()?;
    let (_far, ready) = start(&ca, now, there)?;
    let issued = ca.issue_node(NodeId(1), Validity::starting(now, VALID))?;
    let pki = pki(ca.certificate_pem(), &issued.certificate_pem, &issued.key_pem)?;
    std::thread::scope(|scope| {
        let near = scope.spawn(|| {
            pin(here)?;
            runtime()?.block_on(async {
                let ours = ours::Near::connect(&pki, ready.ours).await.context("our near end")?;
                let bare = bare::Near::connect(&pki, ready.bare).await.context("the bare near end")?;
                measure(ours, bare).await
            })
        });
        near.join().unwrap_or_else(|_| Err(anyhow!("the near end panicked")))
    })
}
