//! Prints what an idle AE costs in memory and what requests cost in CPU time, without the network and the cluster:
//! `cargo run --release -p onemec-cse --features testing --example measure`
#![allow(unsafe_code)] // A counting allocator.
#![allow(clippy::unwrap_used)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use onemec_cse::testing::{Clock, Extras, MemoryCluster, start_cse};
use onemec_cse::{Caller, Cse, CseOptions};
use onemec_onem2m::{Operation, Request, Ty};

struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);

// SAFETY: passes everything on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const AES: usize = 2_000;
const INSTANCES: usize = 10;
const ROUNDS: u32 = 50_000;

async fn create(cse: &Cse, to: &str, fr: &str, ty: Ty, body: String) {
    let mut request = Request::new(Operation::Create, to, fr, "r1");
    request.ty = Some(ty);
    request.pc = Some(body.into());
    let response = cse.handle(request, Caller::default()).await.response;
    assert_eq!(response.rsc.0, 2001, "{:?}", response.pc);
}

/// CPU time of this thread: the first number of its scheduler statistics.
fn cpu_ns() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split(' ').next().unwrap().parse().unwrap()
}

async fn time<F: Future<Output = ()>>(what: &str, mut run: impl FnMut() -> F) {
    for _ in 0..1000 {
        run().await;
    }
    let (started, cpu) = (Instant::now(), cpu_ns());
    for _ in 0..ROUNDS {
        run().await;
    }
    let wall = started.elapsed().as_secs_f64() * 1e6 / f64::from(ROUNDS);
    let cpu = (cpu_ns() - cpu) as f64 / 1e3 / f64::from(ROUNDS);
    println!("{what}: {cpu:.2} us of CPU, {wall:.2} us on the clock");
}

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let cluster = MemoryCluster::new(Clock::Real);
        let (cse, _node) = start_cse(&cluster, 1, CseOptions::default(), Extras::default()).await.unwrap();
        let before = LIVE.load(Ordering::Relaxed);
        for i in 0..AES {
            let (stem, name) = (format!("Cdev{i}"), format!("dev{i}"));
            let body = format!(r#"{{"m2m:ae":{{"rn":"{name}","api":"Nmeasure","rr":false,"srv":["3"]}}}}"#);
            create(&cse, "cse", &stem, Ty::AE, body).await;
            create(&cse, &format!("cse/{name}"), &stem, Ty::CONTAINER, r#"{"m2m:cnt":{"rn":"data","mni":10}}"#.into())
                .await;
            for n in 0..INSTANCES {
                let body = format!(r#"{{"m2m:cin":{{"con":"{{\"t\":{n},\"v\":21.5}}","cnf":"application/json:0"}}}}"#);
                create(&cse, &format!("cse/{name}/data"), &stem, Ty::CONTENT_INSTANCE, body).await;
            }
        }
        cluster.forget_logs();
        let each = (LIVE.load(Ordering::Relaxed) - before) / AES;
        println!(
            "memory per AE with a container and {INSTANCES} instances, bodies and directory included: {each} bytes"
        );
        time("RETRIEVE latest", || async {
            let request = Request::new(Operation::Retrieve, "cse/dev7/data/la", "Cdev7", "r1");
            let response = cse.handle(request, Caller::default()).await.response;
            assert_eq!(response.rsc.0, 2000);
        })
        .await;
        time("RETRIEVE container", || async {
            let request = Request::new(Operation::Retrieve, "cse/dev7/data", "Cdev7", "r1");
            assert_eq!(cse.handle(request, Caller::default()).await.response.rsc.0, 2000);
        })
        .await;
        time("CREATE contentInstance (in-memory log)", || async {
            let body = r#"{"m2m:cin":{"con":"{\"t\":1,\"v\":21.5}","cnf":"application/json:0"}}"#.to_owned();
            create(&cse, "cse/dev7/data", "Cdev7", Ty::CONTENT_INSTANCE, body).await;
        })
        .await;
    });
}
